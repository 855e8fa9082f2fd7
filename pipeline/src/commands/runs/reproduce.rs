//! `reproduce`: repeats a run and says whether its bits agree, or only its figures, and why.

use anyhow::bail;
use artifact::{Host, Sealed};
use serde_json::{Map, Value};

use crate::cli::experiments::ReproduceArgs;
use crate::commands::print_out;
use crate::run::names;
use crate::run::record::{Run, StageRecord};
use crate::run::repeat::{Repeated, differences, repeat};
use crate::run::session;
use crate::run::stage::Stage;
use crate::run::values::number_text;
use crate::ui::console::Console;

/// Figures below this are compared by their difference, larger ones by their relative difference: heuristic, a rounding
/// error of 1e-7 in a divergence of 1e-6 is not a difference of a tenth.
const SMALL: f64 = 1e-3;

/// How a repeated stage compares with the run's.
#[derive(Debug, Clone, PartialEq)]
enum Agreement {
    /// Every file that holds no times is the same.
    Bits,
    /// The files differ; this is the largest difference of a figure, if there is any.
    Figures(Option<Difference>),
}

/// A figure that differs.
#[derive(Debug, Clone, PartialEq)]
struct Difference {
    name: String,
    then: f64,
    now: f64,
    relative: f64,
}

/// Runs the command.
pub fn run(arguments: &ReproduceArgs) -> anyhow::Result<()> {
    let run = names::find_with(&crate::commands::layout(&arguments.store)?, &arguments.run, Stage::Collect)?;
    let name = run.record.name.clone();
    if run.record.stages.is_empty() {
        bail!("run {name} has no finished stage to repeat");
    }
    let console = Console::new();
    crate::commands::log_to(&console, "");
    print_out!("repeating run {name} in a temporary store")?;
    let mut stages: Vec<(Stage, Agreement)> = Vec::new();
    let cancel = session::listen(&console, crate::commands::STOPPING)?;
    repeat(&run, &console, cancel, arguments.offline, |Repeated { then, now }| {
        let agreement = agreement(&run, then, now);
        print_out!("{:>10}  {}", then.stage, text(&agreement, arguments.tolerance))?;
        if agreement != Agreement::Bits {
            for reason in reasons(&run, then, now) {
                print_out!("{:>10}    {reason}", "")?;
            }
        }
        stages.push((then.stage, agreement));
        Ok(())
    })?;
    let others: Vec<&(Stage, Agreement)> =
        stages.iter().filter(|(_, agreement)| *agreement != Agreement::Bits).collect();
    let Some((first, _)) = others.first() else {
        return Ok(print_out!(
            "run {name} is reproduced to the bit: {} of {} stages",
            stages.len(),
            run.record.stages.len()
        )?);
    };
    if let Some((stage, _)) = others.iter().find(|(_, agreement)| !is_within(agreement, arguments.tolerance)) {
        bail!("run {name} is not reproduced: the bits differ from stage {first} on, and the figures of stage {stage}");
    }
    print_out!("run {name} is reproduced in its figures, but not to the bit from stage {first} on")?;
    Ok(())
}

fn is_within(agreement: &Agreement, tolerance: f64) -> bool {
    match agreement {
        Agreement::Figures(Some(difference)) => difference.relative <= tolerance,
        Agreement::Bits | Agreement::Figures(None) => true,
    }
}

fn text(agreement: &Agreement, tolerance: f64) -> String {
    match agreement {
        Agreement::Bits => "same bits".to_owned(),
        Agreement::Figures(None) => "same figures, other bits".to_owned(),
        Agreement::Figures(Some(Difference { name, then, now, relative })) => format!(
            "{}; the largest difference is {} of {name}: {} then, {} now",
            if *relative <= tolerance { "figures agree" } else { "DIFFERS" },
            format_args!("{:.2} %", 100.0 * relative),
            number_text(*then),
            number_text(*now)
        ),
    }
}

fn agreement(run: &Run, then: &StageRecord, now: &Sealed) -> Agreement {
    if then.digest == now.digest() {
        return Agreement::Bits;
    }
    // The record of an older version has no figures; the artifact may be gone.
    let of_artifact = Sealed::open(&run.artifact_folder(then)).map(|sealed| sealed.manifest().counts.clone());
    let mut before = if then.counts.is_empty() { of_artifact.unwrap_or_default() } else { then.counts.clone() };
    let mut after = now.manifest().counts.clone();
    if then.recipe.stage_version != now.manifest().recipe.stage_version {
        only_common(&mut before, &mut after);
    }
    Agreement::Figures(largest_difference(&before, &after))
}

/// Removes the figures that only one of two versions of a stage has.
fn only_common(then: &mut Map<String, Value>, now: &mut Map<String, Value>) {
    now.retain(|name, _| then.contains_key(name));
    then.retain(|name, _| now.contains_key(name));
}

/// Returns the figure with the largest relative difference; one that only one of the two has differs wholly.
fn largest_difference(then: &Map<String, Value>, now: &Map<String, Value>) -> Option<Difference> {
    let number = |counts: &Map<String, Value>, name: &str| counts.get(name).and_then(Value::as_f64);
    let names = then.keys().chain(now.keys().filter(|name| !then.contains_key(*name)));
    let differences = names.filter_map(|name| {
        let (then, now) = match (number(then, name), number(now, name)) {
            (None, None) => return None,
            (then, now) => (then.unwrap_or(f64::NAN), now.unwrap_or(f64::NAN)),
        };
        let difference = (then - now).abs();
        if difference <= 0.0 {
            return None;
        }
        let relative =
            if difference.is_nan() { f64::INFINITY } else { difference / then.abs().max(now.abs()).max(SMALL) };
        Some(Difference { name: name.clone(), then, now, relative })
    });
    differences.max_by(|a, b| a.relative.total_cmp(&b.relative))
}

/// Returns why the bits of a stage differ: inputs and configuration, the program, the machine; else which files do.
fn reasons(run: &Run, then: &StageRecord, now: &Sealed) -> Vec<String> {
    let machine_then = Sealed::open(&run.artifact_folder(then))
        .map_or_else(|_| run.record.host.clone(), |sealed| sealed.manifest().host.clone());
    let mut reasons = changed_host(&machine_then, &now.manifest().host);
    reasons.extend(differences(run, then, now));
    reasons
}

/// Returns what differs between two hosts; the number of cores changes no bit.
fn changed_host(then: &Host, now: &Host) -> Vec<String> {
    let parts = [
        ("the device", &then.device, &now.device),
        ("the platform", &then.platform, &now.platform),
        ("the program's version", &then.version, &now.version),
        ("the program's revision", &then.git_revision, &now.git_revision),
    ];
    let changed = parts.into_iter().filter(|(_, then, now)| then != now);
    changed.map(|(name, then, now)| format!("{name} was {then}, is {now}")).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_largest_relative_difference_is_found() {
        let check = |then: Value, now: Value, expected: Option<(&str, f64)>| {
            let found = largest_difference(then.as_object().unwrap(), now.as_object().unwrap());
            match (found, expected) {
                (None, None) => {}
                (Some(found), Some((name, relative))) => {
                    assert_eq!(found.name, name);
                    assert!(found.relative.total_cmp(&relative).is_eq() || (found.relative - relative).abs() < 1e-9);
                }
                other => panic!("{other:?}"),
            }
        };
        check(json!({"a": 1, "b": 2.0}), json!({"a": 1.0, "b": 2.0}), None);
        check(json!({"a": 100, "b": 2.0}), json!({"a": 101, "b": 2.1}), Some(("b", 0.1 / 2.1)));
        check(json!({"tiny": 1e-6}), json!({"tiny": 2e-6}), Some(("tiny", 1e-3)));
        check(json!({"a": 1}), json!({"a": 1, "new": 3}), Some(("new", f64::INFINITY)));
        check(json!({"notices": ["x"]}), json!({"notices": ["y"]}), None);
        let mut counts = [json!({"a": 1, "old": 3}), json!({"a": 1, "new": 3})].map(|value| match value {
            Value::Object(counts) => counts,
            _ => Map::new(),
        });
        let [then, now] = &mut counts;
        only_common(then, now);
        assert_eq!(largest_difference(then, now), None, "another version of the stage may have other figures");
    }

    #[test]
    fn verdicts_follow_the_tolerance() {
        let of =
            |relative| Agreement::Figures(Some(Difference { name: "loss".to_owned(), then: 2.0, now: 2.02, relative }));
        assert!(is_within(&Agreement::Bits, 0.0) && is_within(&Agreement::Figures(None), 0.0));
        assert!(is_within(&of(0.01), 0.01) && !is_within(&of(0.02), 0.01));
        assert_eq!(text(&of(0.02), 0.01), "DIFFERS; the largest difference is 2.00 % of loss: 2 then, 2.02 now");
    }
}

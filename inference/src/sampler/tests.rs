use super::*;
use proptest::prelude::*;

/// Returns the frequency of each token over `n` evenly spaced draws.
fn frequencies(logits: &[f32], sampling: &Sampling) -> Vec<f64> {
    let n = 20_000;
    let mut counts = vec![0_u32; logits.len()];
    for i in 0..n {
        let uniform = (f64::from(i) + 0.5) / f64::from(n);
        counts[pick(&mut logits.to_vec(), &[], 0, sampling, uniform) as usize] += 1;
    }
    counts.into_iter().map(|count| f64::from(count) / f64::from(n)).collect()
}

#[track_caller]
fn check_frequencies(logits: &[f32], sampling: &Sampling, expected: &[f64]) {
    let found = frequencies(logits, sampling);
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-3, "{found:?} is not {expected:?} with {sampling:?}");
    }
}

// Expected values from transformers 5.23.0:
//     l = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05]])) + 2
//     for w in TemperatureLogitsWarper(0.5), TopKLogitsWarper(2), TopPLogitsWarper(0.9), TopPLogitsWarper(0.4):
//         print(torch.softmax(w(None, l), -1))
#[test]
fn draws_follow_the_distribution() {
    // ln of 0.5, 0.3, 0.15 and 0.05, plus 2: softmax is invariant to a constant.
    let logits: Vec<f32> = [0.5_f32, 0.3, 0.15, 0.05].iter().map(|p| p.ln() + 2.0).collect();
    check_frequencies(&logits, &Sampling::unfiltered(), &[0.5, 0.3, 0.15, 0.05]);
    // Temperature 0.5 squares the probabilities: 0.25, 0.09, 0.0225, 0.0025 over 0.365.
    let sharp = Sampling { temperature: 0.5, ..Sampling::unfiltered() };
    check_frequencies(&logits, &sharp, &[0.684_93, 0.246_58, 0.061_64, 0.006_85]);
    check_frequencies(&logits, &Sampling { top_k: 2, ..Sampling::unfiltered() }, &[0.625, 0.375, 0.0, 0.0]);
    check_frequencies(&logits, &Sampling { top_k: 9, ..Sampling::unfiltered() }, &[0.5, 0.3, 0.15, 0.05]);
    // 0.5 + 0.3 does not reach 0.9, with 0.15 it does.
    check_frequencies(
        &logits,
        &Sampling { top_p: 0.9, ..Sampling::unfiltered() },
        &[0.526_32, 0.315_79, 0.157_89, 0.0],
    );
    check_frequencies(&logits, &Sampling { top_p: 0.4, ..Sampling::unfiltered() }, &[1.0, 0.0, 0.0, 0.0]);
    // After top-k the remaining two have 0.625 and 0.375: the first alone reaches 0.6.
    check_frequencies(&logits, &Sampling { top_k: 2, top_p: 0.6, ..Sampling::unfiltered() }, &[1.0, 0.0, 0.0, 0.0]);
    // transformers 5.24.0: MinPLogitsWarper(0.29), and MinPLogitsWarper(0.4) after TemperatureLogitsWarper(2.0).
    let min_p = Sampling { min_p: 0.29, ..Sampling::unfiltered() };
    check_frequencies(&logits, &min_p, &[0.526_32, 0.315_79, 0.157_89, 0.0]);
    let flat = Sampling { temperature: 2.0, min_p: 0.4, ..Sampling::unfiltered() };
    check_frequencies(&logits, &flat, &[0.430_56, 0.333_51, 0.235_93, 0.0]);
    check_frequencies(&logits, &Sampling { min_p: 1.0, ..Sampling::unfiltered() }, &[1.0, 0.0, 0.0, 0.0]);
    check_frequencies(&logits, &Sampling { top_k: 2, min_p: 0.05, ..min_p }, &[0.625, 0.375, 0.0, 0.0]);
    // transformers 5.24.0: TypicalLogitsWarper with these masses; the entropy is 1.142, closest to -ln 0.3 = 1.204.
    let typical = |typical_p: f32| Sampling { typical_p, ..Sampling::unfiltered() };
    check_frequencies(&logits, &typical(0.2), &[0.0, 1.0, 0.0, 0.0]);
    check_frequencies(&logits, &typical(0.7), &[0.625, 0.375, 0.0, 0.0]);
    check_frequencies(&logits, &typical(0.9), &[0.526_32, 0.315_79, 0.157_89, 0.0]);
    check_frequencies(&logits, &Sampling { top_k: 2, ..typical(0.3) }, &[1.0, 0.0, 0.0, 0.0]);
    check_frequencies(&logits, &Sampling { temperature: 1e-30, ..Sampling::unfiltered() }, &[1.0, 0.0, 0.0, 0.0]);
    let masked = [f32::NEG_INFINITY, 0.0, f32::NEG_INFINITY, 0.0];
    check_frequencies(&masked, &Sampling::unfiltered(), &[0.0, 0.5, 0.0, 0.5]);
}

#[test]
fn ties_go_to_the_lowest_token() {
    let greedy = Sampling { temperature: 0.0, ..Sampling::unfiltered() };
    for (logits, expected) in
        [(vec![1.0, 3.0, 3.0, 2.0], 1), (vec![0.0, 0.0], 0), (vec![-0.0, 0.0], 0), (vec![f32::NEG_INFINITY, -7.0], 1)]
    {
        assert_eq!(pick(&mut logits.clone(), &[], 0, &greedy, 0.9), expected, "{logits:?}");
    }
    check_frequencies(&[1.0; 4], &Sampling { top_k: 2, ..Sampling::unfiltered() }, &[0.5, 0.5, 0.0, 0.0]);
    check_frequencies(&[1.0; 4], &Sampling { top_p: 0.5, ..Sampling::unfiltered() }, &[0.5, 0.5, 0.0, 0.0]);
}

#[test]
fn repetition_is_penalized_as_in_ctrl() {
    // transformers 5.23.0: RepetitionPenaltyLogitsProcessor(2.0)(tensor([[0, 1, 1, 3]]), tensor([[2., -1., 4.,
    // 0.]])) gives [1, -2, 4, 0]: a token that occurs twice is penalized once.
    let mut logits = [2.0, -1.0, 4.0, 0.0];
    penalize(&mut logits, &[0, 1, 1, 3], 2.0);
    assert_eq!(logits.map(f32::to_bits), [1.0, -2.0, 4.0, 0.0_f32].map(f32::to_bits));
    let greedy = Sampling { temperature: 0.0, repetition_penalty: 3.0, ..Sampling::unfiltered() };
    assert_eq!(pick(&mut [3.0, 2.0], &[0], 1, &greedy, 0.0), 1);
    assert_eq!(pick(&mut [3.0, 2.0], &[7], 1, &greedy, 0.0), 0, "a token outside the vocabulary is ignored");
}

#[test]
fn sampled_tokens_are_penalized_as_in_openais_api() {
    // mu[j] - c[j] * frequency - (c[j] > 0) * presence; token 3 stands in the prompt alone.
    let sampling = Sampling { frequency_penalty: 0.5, presence_penalty: 0.25, ..Sampling::unfiltered() };
    let mut logits = [2.0, -1.0, 4.0, 1.0];
    penalize_sampled(&mut logits, &[0, 1, 1, 7], &sampling);
    assert_eq!(logits.map(f32::to_bits), [1.25, -2.25, 4.0, 1.0_f32].map(f32::to_bits));
    let greedy = Sampling { temperature: 0.0, ..sampling };
    assert_eq!(pick(&mut [3.0, 2.5], &[0, 0], 2, &greedy, 0.0), 0, "the prompt does not count");
    assert_eq!(pick(&mut [3.0, 2.5], &[0, 0], 1, &greedy, 0.0), 1);
    let mut logits = [1.0, 2.0];
    add_bias(&mut logits, &[(1, -100.0), (9, 1.0)]);
    assert_eq!(logits.map(f32::to_bits), [1.0, -98.0_f32].map(f32::to_bits));
}

#[test]
fn settings_out_of_range_are_named() {
    let cases = [
        (Sampling { temperature: -1.0, ..Sampling::unfiltered() }, "temperature must be a number from 0 up, not -1"),
        (
            Sampling { temperature: f32::NAN, ..Sampling::unfiltered() },
            "temperature must be a number from 0 up, not NaN",
        ),
        (Sampling { top_p: 0.0, ..Sampling::unfiltered() }, "top_p must be a number above 0 and at most 1, not 0"),
        (Sampling { top_p: 1.5, ..Sampling::unfiltered() }, "top_p must be a number above 0 and at most 1, not 1.5"),
        (Sampling { min_p: 1.5, ..Sampling::unfiltered() }, "min_p must be a number from 0 to 1, not 1.5"),
        (
            Sampling { repetition_penalty: 0.0, ..Sampling::unfiltered() },
            "repetition_penalty must be a number above 0, not 0",
        ),
        (
            Sampling { typical_p: 0.0, ..Sampling::unfiltered() },
            "typical_p must be a number above 0 and at most 1, not 0",
        ),
        (
            Sampling { presence_penalty: f32::NAN, ..Sampling::unfiltered() },
            "presence_penalty must be a finite number, not NaN",
        ),
    ];
    for (sampling, expected) in cases {
        assert_eq!(sampling.validate().unwrap_err().to_string(), expected);
    }
    Sampling::unfiltered().validate().unwrap();
}

/// Reference implementation of top-p: sorts everything, then truncates.
fn sorted_nucleus(logits: &[f32], sampling: &Sampling) -> Vec<u32> {
    let mut tokens: Vec<u32> = (0..logits.len() as u32).collect();
    tokens.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]));
    let max = logits[tokens[0] as usize];
    let weight = |token: u32| f64::from(((logits[token as usize] - max) / sampling.temperature).exp());
    let target = f64::from(sampling.top_p) * (0..logits.len() as u32).map(weight).sum::<f64>();
    let mut cumulative = 0.0;
    let mut kept = Vec::new();
    for token in tokens {
        if cumulative >= target && !kept.is_empty() {
            break;
        }
        cumulative += weight(token);
        kept.push(token);
    }
    kept
}

#[test]
fn seeds_give_the_same_numbers_on_every_platform() {
    let numbers = |seed| {
        let mut uniforms = Uniforms::new(seed);
        [uniforms.draw(), uniforms.draw()]
    };
    assert!(numbers(1).iter().all(|number| (0.0..1.0).contains(number)));
    assert_ne!(numbers(1).map(f64::to_bits), numbers(2).map(f64::to_bits));
    // Recorded on x86-64: the same seed must give the same text everywhere.
    assert_eq!(numbers(1337).map(f64::to_bits), [0x3fe5_704b_693f_02a5, 0x3fe1_c938_f0cd_5e1e]);
}

proptest! {
    #[test]
    fn partial_selection_equals_sorting(
        logits in prop::collection::vec((-8_i8..8).prop_map(f32::from), 1..900),
        temperature in 0.2_f32..20.0,
        top_p in 0.01_f32..0.999,
    ) {
        let sampling = Sampling { temperature, top_p, top_k: 0, ..Sampling::default() };
        let (tokens, weights) = candidates(&logits, &sampling);
        prop_assert_eq!(tokens, sorted_nucleus(&logits, &sampling));
        prop_assert!(weights.is_sorted_by(|a, b| a >= b));
    }

    #[test]
    fn picked_token_is_a_candidate(
        logits in prop::collection::vec(-50.0_f32..50.0, 1..60),
        sequence in prop::collection::vec(0_u32..80, 0..20),
        temperature in 0.0_f32..3.0,
        top_k in 0_usize..70,
        top_p in 0.01_f32..=1.0,
        min_p in 0.0_f32..=1.0,
        typical_p in 0.01_f32..=1.0,
        repetition_penalty in 0.5_f32..2.0,
        uniform in 0.0_f64..1.0,
    ) {
        let sampling = Sampling {
            temperature, top_k, top_p, min_p, typical_p, repetition_penalty, ..Sampling::unfiltered()
        };
        let token = pick(&mut logits.clone(), &sequence, sequence.len(), &sampling, uniform) as usize;
        prop_assert!(token < logits.len());
        if top_k > 0 {
            let mut penalized = logits.clone();
            penalize(&mut penalized, &sequence, repetition_penalty);
            let more_likely = penalized.iter().filter(|logit| **logit > penalized[token]).count();
            prop_assert!(more_likely < top_k);
        }
    }
}

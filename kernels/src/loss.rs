//! Cross-entropy, and the divergence of a student from its teacher.
//!
//! Dimensions: N rows, V classes.

use rayon::prelude::*;

use crate::dispatch::{ROWS_PER_TASK, vectorized};
use crate::simd::{exp, max, sum};

/// Turns logits `[N, V]` into the gradient of the loss, and returns the loss: see [`crate::cross_entropy`].
pub fn cross_entropy(logits: &mut [f32], classes: usize, targets: &[i64], loss_scale: f64, z_loss: f64) -> f32 {
    let losses: Vec<f64> = logits
        .par_chunks_mut(classes)
        .zip(targets.par_iter())
        .with_min_len(ROWS_PER_TASK)
        .map(|(row, target)| {
            if *target < 0 {
                row.fill(0.0);
                return 0.0;
            }
            vectorized!({
                let target = *target as usize;
                let largest = max(row);
                let own = row[target] - largest;
                for x in &mut *row {
                    *x = exp(*x - largest);
                }
                let total = sum(row, |x| x);
                // The maximum ignores NaN, so that only the sum shows it.
                let log_total = if total.is_nan() { f64::NAN } else { f64::from(total).ln() };
                let lse = log_total + f64::from(largest);
                let factor = (loss_scale * (1.0 + 2.0 * z_loss * lse)) as f32 / total;
                for x in &mut *row {
                    *x *= factor;
                }
                row[target] -= loss_scale as f32;
                log_total - f64::from(own) + z_loss * lse * lse
            })
        })
        .collect();
    (losses.iter().sum::<f64>() * loss_scale) as f32
}

/// Turns the logits of a teacher `[N, V]` into the gradient of the loss with respect to those of its student, and
/// returns the loss: see [`crate::kl_divergence`].
pub fn kl_divergence(
    student: &[f32],
    teacher: &mut [f32],
    classes: usize,
    targets: &[i64],
    temperature: f64,
    loss_scale: f64,
) -> f32 {
    let losses: Vec<f64> = teacher
        .par_chunks_mut(classes)
        .zip(student.par_chunks(classes))
        .zip(targets.par_iter())
        .with_min_len(ROWS_PER_TASK)
        .map(|((teacher, student), target)| {
            if *target < 0 {
                teacher.fill(0.0);
                return 0.0;
            }
            vectorized!({
                let inverse = temperature.recip() as f32;
                let (largest, largest_teacher) = (max(student), max(teacher));
                let total = f64::from(sum(student, |x| exp((x - largest) * inverse)));
                let total_teacher = f64::from(sum(teacher, |x| exp((x - largest_teacher) * inverse)));
                // The difference of two log-probabilities is that of the logits plus this.
                let offset = (total.ln() - total_teacher.ln()) as f32 + (largest - largest_teacher) * inverse;
                let (scale, scale_teacher) = (total.recip() as f32, total_teacher.recip() as f32);
                let factor = (loss_scale * temperature) as f32;
                let mut divergence = 0.0;
                for (teacher, student) in teacher.iter_mut().zip(student) {
                    let p = exp((*teacher - largest_teacher) * inverse) * scale_teacher;
                    let q = exp((student - largest) * inverse) * scale;
                    divergence += f64::from(p * ((*teacher - student) * inverse + offset));
                    *teacher = factor * (q - p);
                }
                divergence
            })
        })
        .collect();
    (losses.iter().sum::<f64>() * temperature * temperature * loss_scale) as f32
}

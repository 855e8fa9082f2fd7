//! The scale, and offset, of a group of weights with the least weighted squared error, found among a few near the one
//! that spans the group, as ggml's reference functions search. Bytes are not always those of its library; the error is
//! within 3 % of it.

/// Returns the scale s and the offset m of 4 bits with the least weighted error of s q − m, where m ≥ 0. Without an
/// importance, errors weigh more for larger weights.
pub(super) fn scale_and_offset(group: &[f32; 32], importance: Option<&[f32; 32]>) -> (f32, f32) {
    const MAX: f32 = 15.0;
    const STEPS: i16 = 20;
    let mean_square = group.iter().map(|x| x * x).sum::<f32>() / 32.0;
    let weights = importance.copied().unwrap_or_else(|| group.map(|x| mean_square.sqrt() + x.abs()));
    let min = group.iter().copied().fold(group[0], f32::min).min(0.0);
    let max = group.iter().copied().fold(group[0], f32::max);
    if max <= min {
        return (0.0, -min);
    }
    let (mut sum_w, mut sum_x) = (0.0, 0.0);
    for (w, x) in weights.iter().zip(group) {
        sum_w += w;
        sum_x += w * x;
    }
    let quants = |inverse: f32| group.map(|x| nearest(inverse * (x - min)).clamp(0, 15) as f32);
    let error = |quants: &[f32; 32], scale: f32, low: f32| {
        let squares = quants.iter().zip(group).zip(&weights).map(|((q, x), w)| w * (scale * q + low - x).powi(2));
        squares.sum::<f32>()
    };
    let span = max - min;
    let mut best = (1.0 / (MAX / span), min);
    let mut best_error = error(&quants(MAX / span), best.0, best.1);
    for step in 0..=STEPS {
        let quants = quants((-1.0 + 0.1 * f32::from(step) + MAX) / span);
        let (mut sum_q, mut sum_q2, mut sum_xq) = (0.0, 0.0, 0.0);
        for ((q, x), w) in quants.iter().zip(group).zip(&weights) {
            sum_q += w * q;
            sum_q2 += w * q * q;
            sum_xq += w * q * x;
        }
        let determinant = sum_w * sum_q2 - sum_q * sum_q;
        if determinant <= 0.0 {
            continue;
        }
        let mut fit = ((sum_w * sum_xq - sum_x * sum_q) / determinant, (sum_q2 * sum_x - sum_q * sum_xq) / determinant);
        if fit.1 > 0.0 {
            fit = (sum_xq / sum_q2, 0.0);
        }
        let error = error(&quants, fit.0, fit.1);
        if error < best_error {
            (best, best_error) = (fit, error);
        }
    }
    (best.0, -best.1)
}

/// Returns the scale of 6 bits with the least weighted error. Without an importance, errors weigh by the square of the
/// weight.
pub(super) fn symmetric_scale(group: &[f32; 16], importance: Option<&[f32; 16]>) -> f32 {
    const MAX: f32 = 32.0;
    let largest = group.iter().fold(0.0f32, |max, x| if x.abs() > max.abs() { *x } else { max });
    let weights = importance.copied().unwrap_or_else(|| group.map(|x| x * x));
    let sums = |inverse: f32| {
        group.iter().zip(&weights).fold((0.0f32, 0.0f32), |(xq, q2), (x, w)| {
            let q = nearest(inverse * x).clamp(-32, 31) as f32;
            (xq + w * x * q, q2 + w * q * q)
        })
    };
    let (sum_xq, sum_q2) = sums(-MAX / largest);
    // Where no error counts, the scale that spans the group.
    let mut scale = if sum_q2 > 0.0 { sum_xq / sum_q2 } else { largest / -MAX };
    let mut best = scale * sum_xq;
    for step in (-9i16..=9).filter(|step| *step != 0) {
        let (sum_xq, sum_q2) = sums(-(MAX + 0.1 * f32::from(step)) / largest);
        if sum_q2 > 0.0 && sum_xq * sum_xq > best * sum_q2 {
            scale = sum_xq / sum_q2;
            best = scale * sum_xq;
        }
    }
    scale
}

fn nearest(x: f32) -> i32 {
    x.round_ties_even() as i32
}

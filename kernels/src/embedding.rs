//! Embedding: rows of a table by id, and the gradients added back to them.

/// Returns the rows of a table `[V, D]` that the ids name.
pub fn embedding(table: &[f32], d: usize, ids: &[i64]) -> Vec<f32> {
    let mut y = vec![0.0; ids.len() * d];
    for (y, id) in y.chunks_exact_mut(d).zip(ids) {
        y.copy_from_slice(&table[*id as usize * d..][..d]);
    }
    y
}

/// Adds each row of the gradient to the row of the table's gradient that its id names.
pub fn embedding_backward(d_table: &mut [f32], d: usize, ids: &[i64], gradient: &[f32]) {
    for (g, id) in gradient.chunks_exact(d).zip(ids) {
        d_table[*id as usize * d..][..d].iter_mut().zip(g).for_each(|(sum, g)| *sum += g);
    }
}

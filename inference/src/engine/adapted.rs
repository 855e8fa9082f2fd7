//! The rows of a call that have an adapter, by adapter.

use kernels::Pool;

use crate::adapter::low_rank::{Buffers, LayerAdapter, LowRank};
use crate::{Row, SequenceRef};

/// The rows of an adapter.
pub(super) struct AdaptedRows<'a> {
    layers: &'a [LayerAdapter],
    rows: Vec<usize>,
}

impl<'a> AdaptedRows<'a> {
    /// Returns the rows of each adapter.
    ///
    /// # Panics
    /// Panics if an adapter is not one of an engine.
    pub fn of(rows: &[Row], sequences: &[SequenceRef<'a>]) -> Vec<Self> {
        let mut adapted: Vec<Self> = Vec::new();
        for (i, row) in rows.iter().enumerate() {
            let Some(adapter) = sequences[row.sequence].adapter else { continue };
            let layers = adapter.layers().expect("an adapter that was loaded for this engine");
            match adapted.iter_mut().find(|other| std::ptr::eq(other.layers, layers)) {
                Some(other) => other.rows.push(i),
                None => adapted.push(Self { layers, rows: vec![i] }),
            }
        }
        adapted
    }

    /// Adds to y what the adapter has for a projection of a layer, if it has something.
    ///
    /// # Shapes
    /// - x: `[M, I]`
    /// - y: `[M, O]`
    pub fn add(
        &self,
        pool: &Pool,
        layer: usize,
        projection: impl Fn(&LayerAdapter) -> Option<&LowRank>,
        x: &[f32],
        buffers: &mut Buffers,
        y: &mut [f32],
    ) {
        if let Some(low_rank) = projection(&self.layers[layer]) {
            low_rank.add(pool, &self.rows, x, buffers, y);
        }
    }
}

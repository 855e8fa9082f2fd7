//! A forward pass one layer at a time, for statistics that are too large to be kept for all layers at once.

use kernels::slices::AttentionRow;

use super::{Engine, Observe};
use crate::Row;

impl Engine {
    /// Returns the embeddings of the rows' tokens: the input of the first layer.
    ///
    /// # Shapes
    /// - output: `[M, D]`
    pub fn embeddings(&mut self, rows: &[Row]) -> Vec<f32> {
        self.embed(rows);
        self.buffers.x.clone()
    }

    /// Replaces the input of a layer by its output, and shows the inputs of its projections. The cache of the layer is
    /// used as by [`ForwardPass::forward`](crate::ForwardPass::forward), that of other layers is not touched.
    ///
    /// # Shapes
    /// - hidden: `[M, D]`
    ///
    /// # Panics
    /// Panics if there is no such layer, or `hidden` has another number of rows.
    pub fn observe_layer(
        &mut self,
        layer: usize,
        rows: &[Row],
        sequences: &[&[u32]],
        hidden: &mut [f32],
        observe: &mut Observe,
    ) {
        assert_eq!(hidden.len(), rows.len() * self.config.d_model, "a state for each row");
        self.buffers.x.clear();
        self.buffers.x.extend_from_slice(hidden);
        self.rotate_to(rows, sequences.len());
        let rows_of_attention: Vec<AttentionRow> =
            rows.iter().map(|row| AttentionRow { position: row.position, blocks: sequences[row.sequence] }).collect();
        self.write_to_cache(layer, &rows_of_attention, &[], observe);
        self.attention(layer, &rows_of_attention, &[], observe);
        self.mlp(layer, &[], observe);
        hidden.copy_from_slice(&self.buffers.x);
    }
}

//! Where JSON text is in its nesting, character by character.

/// How deep a text is, and whether it is in a string. Whether it is valid JSON does not matter.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Nesting {
    depth: usize,
    is_in_string: bool,
    is_escaped: bool,
}

impl Nesting {
    /// Returns the nesting inside `depth` objects or arrays.
    pub(super) fn inside(depth: usize) -> Self {
        Self { depth, ..Self::default() }
    }

    /// Follows a text, and returns its length up to the bracket that closes the outermost object or array; none if all
    /// of it is inside.
    pub(super) fn close(&mut self, text: &str) -> Option<usize> {
        // The bytes of other characters are not ASCII.
        for (at, byte) in text.bytes().enumerate() {
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' if self.is_in_string => self.is_escaped = true,
                b'"' => self.is_in_string = !self.is_in_string,
                _ if self.is_in_string => {}
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        return Some(at + 1);
                    }
                }
                _ => {}
            }
        }
        None
    }
}

//! A writer of the Protocol Buffers wire format, on which the formats of TensorBoard and ONNX are
//! based.

/// A Protocol Buffers message, built field by field.
#[derive(Clone, Debug, Default)]
pub struct Message(Vec<u8>);

impl Message {
    /// Returns the encoded bytes.
    pub fn encoded(&self) -> &[u8] {
        &self.0
    }

    fn number(mut self, mut n: u64) -> Self {
        while n >= 0x80 {
            self.0.push(n as u8 | 0x80);
            n >>= 7;
        }
        self.0.push(n as u8);
        self
    }

    /// Adds an integer or an enumeration value.
    pub fn varint(self, field: u64, n: u64) -> Self {
        self.number(field << 3).number(n)
    }

    /// Adds a 64-bit float.
    pub fn double(mut self, field: u64, x: f64) -> Self {
        self = self.number(field << 3 | 1);
        self.0.extend(x.to_le_bytes());
        self
    }

    /// Adds a 32-bit float.
    pub fn float(mut self, field: u64, x: f32) -> Self {
        self = self.number(field << 3 | 5);
        self.0.extend(x.to_le_bytes());
        self
    }

    /// Adds a byte string.
    pub fn bytes(mut self, field: u64, bytes: &[u8]) -> Self {
        self = self.number(field << 3 | 2).number(bytes.len() as u64);
        self.0.extend(bytes);
        self
    }

    /// Adds a string.
    pub fn text(self, field: u64, text: &str) -> Self {
        self.bytes(field, text.as_bytes())
    }

    /// Adds a nested message.
    pub fn message(self, field: u64, message: &Self) -> Self {
        self.bytes(field, &message.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_take_as_many_bytes_as_they_need() {
        assert_eq!(Message::default().varint(2, 300).0, [0x10, 0xac, 0x02]);
        assert_eq!(Message::default().float(2, 1.0).0, [0x15, 0, 0, 0x80, 0x3f]);
        assert_eq!(Message::default().text(1, "ab").0, [0x0a, 2, b'a', b'b']);
    }
}

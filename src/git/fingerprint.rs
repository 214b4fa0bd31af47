//! A fingerprint of bytes: to see that something is as it was, not to defend against forgery.

/// FNV-1a of 128 bits: the same in every version and on every machine, as what is kept with a run
/// is compared later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprint(u128);

impl Fingerprint {
    /// Of nothing.
    pub fn new() -> Fingerprint {
        Fingerprint(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d)
    }

    /// With these bytes behind what it was of. Their number is part of it, so that two pieces are
    /// not taken for one.
    pub fn with(self, bytes: &[u8]) -> Fingerprint {
        const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
        let length = (bytes.len() as u64).to_le_bytes();
        let step = |sum: u128, byte: &u8| (sum ^ u128::from(*byte)).wrapping_mul(PRIME);
        Fingerprint(length.iter().chain(bytes).fold(self.0, step))
    }

    /// As 32 hexadecimal digits.
    pub fn to_hex(self) -> String {
        format!("{:032x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_and_their_order_count() {
        let of = |pieces: &[&str]| {
            pieces.iter().fold(Fingerprint::new(), |sum, piece| sum.with(piece.as_bytes())).to_hex()
        };
        let all = [of(&[]), of(&[""]), of(&["ab"]), of(&["a", "b"]), of(&["b", "a"]), of(&["ba"])];
        for (index, one) in all.iter().enumerate() {
            assert_eq!(one.len(), 32);
            assert_eq!(all.iter().position(|other| other == one), Some(index));
        }
        // It is kept on disk: it may never change.
        assert_eq!(of(&["kugetsu"]), "39f75da1e7ff0c3203063f1ec8c520ce");
    }
}

//! The bytes of seeds.

use bytes::Bytes;

use super::Protocol;
use crate::stream::frame::{CHUNK_END, Frame, INITIAL};

impl Protocol {
    /// Seeds, each in parts, with how many rounds a part ends. `are_last`: no other ones follow.
    pub(in crate::transport::shard) fn seeds(
        self,
        seeds: &[Frame],
        are_last: bool,
    ) -> Vec<(Bytes, u32)> {
        let mut parts = Vec::with_capacity(seeds.len() * 3);
        for (index, seed) in seeds.iter().enumerate() {
            if are_last && index + 1 == seeds.len() {
                let [name, rest] = self.seed(seed);
                parts.extend([(name, 0), (rest, 1)]);
            } else {
                self.seed_without_id(seed, &mut parts);
            }
        }
        parts
    }

    /// A seed that another one follows. It has no `id:`: a client that reconnects after it must not
    /// resume there, as it lacks the other seeds.
    fn seed_without_id(self, frame: &Frame, into: &mut Vec<(Bytes, u32)>) {
        let data = frame.data();
        match self {
            Self::WebSocket => into.push((frame.message(), 1)),
            Self::Plain => into.extend([(Bytes::from_static(INITIAL), 0), (data, 1)]),
            Self::Chunked => {
                let head = format!("{:x}\r\n", INITIAL.len() + data.len());
                let head = [head.as_bytes(), INITIAL].concat().into();
                into.extend([(head, 0), (data, 0), (Bytes::from_static(CHUNK_END), 1)]);
            }
        }
    }

    pub(super) fn seed(self, frame: &Frame) -> [Bytes; 2] {
        match self {
            Self::WebSocket => [Bytes::new(), frame.message()],
            Self::Chunked => frame.initial_chunk(),
            Self::Plain => frame.initial_event(),
        }
    }
}

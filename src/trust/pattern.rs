//! Patterns for sources: `*` is anything within one part of a path, `**` anything at all.

use crate::oci::reference::canonical_registry;

/// Longest pattern, in bytes.
const LONGEST: usize = 1000;
/// Agents that a source begins with.
pub const AGENTS: [&str; 11] = [
    "docker",
    "docker-archive",
    "docker-daemon",
    "oci",
    "oci-archive",
    "localimage",
    "oras",
    "library",
    "busybox",
    "debootstrap",
    "scratch",
];

/// Sources have registries in their one spelling; a rule may have another.
fn canonical(text: &str) -> String {
    match text.split_once("://") {
        Some((agent, rest)) if matches!(agent, "docker" | "oras" | "library") || agent.contains('*') => {
            let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            format!("{agent}://{}{path}", canonical_registry(host))
        }
        _ => text.to_owned(),
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Byte(u8),
    /// `*`.
    Within,
    /// `**`.
    Anything,
}

impl Pattern {
    /// The error says what is wrong with the text.
    pub fn parse(text: &str) -> Result<Pattern, String> {
        if text.is_empty() || text.len() > LONGEST {
            return Err(format!("a pattern has 1 to {LONGEST} bytes"));
        }
        let agent = text.split(':').next().unwrap_or_default();
        if !agent.contains('*') && !AGENTS.contains(&agent) {
            return Err(format!("{text:?} begins with no agent; those are {}", AGENTS.join(", ")));
        }
        let text = canonical(text);
        let mut parts = Vec::new();
        for byte in text.bytes() {
            match (byte, parts.last()) {
                (b'*', Some(Part::Within)) => drop(parts.splice(parts.len() - 1.., [Part::Anything])),
                (b'*', Some(Part::Anything)) => {}
                (b'*', _) => parts.push(Part::Within),
                (byte, _) => parts.push(Part::Byte(byte)),
            }
        }
        Ok(Pattern(parts))
    }

    /// Whether it stands for the whole of `text`. Takes as many steps as both are long, multiplied.
    pub fn matches(&self, text: &str) -> bool {
        // `reached[n]`: the first n parts can stand for what was read.
        let mut reached = vec![false; self.0.len() + 1];
        reached[0] = true;
        self.skip_stars(&mut reached);
        for byte in text.bytes() {
            let mut next = vec![false; reached.len()];
            for (index, part) in self.0.iter().enumerate().filter(|(index, _)| reached[*index]) {
                match part {
                    Part::Byte(wanted) if *wanted == byte => next[index + 1] = true,
                    Part::Within if byte != b'/' => next[index] = true,
                    Part::Anything => next[index] = true,
                    _ => {}
                }
            }
            self.skip_stars(&mut next);
            reached = next;
        }
        reached[self.0.len()]
    }

    /// A star may stand for nothing.
    fn skip_stars(&self, reached: &mut [bool]) {
        for (index, part) in self.0.iter().enumerate() {
            reached[index + 1] |= reached[index] && !matches!(part, Part::Byte(_));
        }
    }
}

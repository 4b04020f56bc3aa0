//! YAML documents as trees, one after the other, bounded.

use super::MetadataError;
use saphyr_parser::{Event, Parser, StrInput};

/// Nesting within a document.
const MAXIMUM_DEPTH: usize = 64;
/// Values of one document.
const MAXIMUM_NODES: usize = 1 << 20;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Scalar(String),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
}

impl Node {
    /// The value of a key of a mapping.
    pub fn get(&self, key: &str) -> Option<&Node> {
        match self {
            Node::Map(entries) => entries.iter().find(|(name, _)| name.text() == Some(key)).map(|(_, value)| value),
            _ => None,
        }
    }

    pub fn text(&self) -> Option<&str> {
        match self {
            Node::Scalar(text) => Some(text),
            _ => None,
        }
    }

    /// Texts of a list.
    pub fn texts(&self) -> Vec<String> {
        match self {
            Node::List(items) => items.iter().filter_map(Node::text).map(str::to_owned).collect(),
            _ => Vec::new(),
        }
    }

    pub fn entries(&self) -> &[(Node, Node)] {
        match self {
            Node::Map(entries) => entries,
            _ => &[],
        }
    }

    pub fn items(&self) -> &[Node] {
        match self {
            Node::List(items) => items,
            _ => &[],
        }
    }
}

/// Calls `take` with every document of a text.
pub(super) fn documents(
    text: &str,
    mut take: impl FnMut(Node) -> Result<(), MetadataError>,
) -> Result<(), MetadataError> {
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = next(&mut parser)? {
        if let Event::DocumentStart(_) = event {
            take(document(&mut parser)?)?;
        }
    }
    Ok(())
}

fn next<'a>(parser: &mut Parser<'a, StrInput<'a>>) -> Result<Option<Event<'a>>, MetadataError> {
    match parser.next_event() {
        None => Ok(None),
        Some(Ok((event, _))) => Ok(Some(event)),
        Some(Err(error)) => Err(MetadataError::Yaml(error.to_string())),
    }
}

/// A collection that is not closed yet.
enum Open {
    List(Vec<Node>),
    /// With a key that waits for its value.
    Map(Vec<(Node, Node)>, Option<Node>),
}

fn document<'a>(parser: &mut Parser<'a, StrInput<'a>>) -> Result<Node, MetadataError> {
    let mut stack: Vec<Open> = Vec::new();
    let mut root = Node::Scalar(String::new());
    let mut nodes = 0;
    loop {
        let event = next(parser)?.ok_or_else(|| MetadataError::Yaml("it ends in the middle".into()))?;
        let node = match event {
            Event::Scalar(text, ..) => Node::Scalar(text.into_owned()),
            Event::SequenceStart(..) => {
                stack.push(Open::List(Vec::new()));
                continue;
            }
            Event::MappingStart(..) => {
                stack.push(Open::Map(Vec::new(), None));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match stack.pop() {
                Some(Open::List(items)) => Node::List(items),
                Some(Open::Map(entries, _)) => Node::Map(entries),
                None => return Err(MetadataError::Yaml("a collection ends that did not begin".into())),
            },
            Event::DocumentEnd => return Ok(root),
            Event::Alias(_) => return Err(MetadataError::Yaml("aliases are not known here".into())),
            Event::StreamEnd => return Err(MetadataError::Yaml("it ends in the middle".into())),
            _ => continue,
        };
        nodes += 1;
        if nodes > MAXIMUM_NODES || stack.len() > MAXIMUM_DEPTH {
            return Err(MetadataError::TooLarge("a document has too many values or is nested too deeply"));
        }
        match stack.last_mut() {
            None => root = node,
            Some(Open::List(items)) => items.push(node),
            Some(Open::Map(entries, key)) => match key.take() {
                None => *key = Some(node),
                Some(name) => entries.push((name, node)),
            },
        }
    }
}

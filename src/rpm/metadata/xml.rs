//! A stream of XML elements with bounded memory.

use super::MetadataError;
use quick_xml::XmlVersion;
use quick_xml::events::{BytesStart, Event};
use quick_xml::name::QName;
use std::cell::Cell;
use std::io::{self, BufRead, Read};
use std::rc::Rc;

/// Bytes between two marks; a longer text is an attack.
const MAXIMUM_EVENT: u64 = 16 << 20;
/// Bytes of a whole file.
const MAXIMUM_FILE: u64 = 8 << 30;
/// Nesting of elements.
const MAXIMUM_DEPTH: usize = 64;
/// Bytes of an element's text.
const MAXIMUM_TEXT: usize = 1 << 20;

/// What comes next. Names are without their prefix.
pub(super) enum Node {
    Open,
    Close,
    End,
}

/// Reads elements one after the other. An empty element opens and closes.
pub(super) struct Xml<R> {
    reader: quick_xml::Reader<Limited<R>>,
    budget: Rc<Cell<u64>>,
    buffer: Vec<u8>,
    /// Local name of the element that opened or closed last.
    pub name: String,
    attributes: Attributes,
    /// Text between the last opening and what followed it.
    pub text: String,
    closes: bool,
    depth: usize,
}

impl<R: BufRead> Xml<R> {
    pub fn new(inner: R) -> Xml<R> {
        let budget = Rc::new(Cell::new(MAXIMUM_EVENT));
        let limited = Limited { inner, budget: budget.clone(), left: MAXIMUM_FILE };
        let mut reader = quick_xml::Reader::from_reader(limited);
        reader.config_mut().check_end_names = true;
        Xml {
            reader,
            budget,
            buffer: Vec::new(),
            name: String::new(),
            attributes: Attributes::default(),
            text: String::new(),
            closes: false,
            depth: 0,
        }
    }

    pub fn next(&mut self) -> Result<Node, MetadataError> {
        if std::mem::take(&mut self.closes) {
            return Ok(Node::Close);
        }
        loop {
            self.buffer.clear();
            self.budget.set(MAXIMUM_EVENT);
            let event =
                self.reader.read_event_into(&mut self.buffer).map_err(|error| MetadataError::Xml(error.to_string()))?;
            match event {
                Event::Start(start) => {
                    self.depth += 1;
                    if self.depth > MAXIMUM_DEPTH {
                        return Err(MetadataError::TooLarge("elements are nested too deeply"));
                    }
                    open(&mut self.name, &mut self.attributes, &start)?;
                    self.text.clear();
                    return Ok(Node::Open);
                }
                Event::Empty(start) => {
                    open(&mut self.name, &mut self.attributes, &start)?;
                    self.text.clear();
                    self.closes = true;
                    return Ok(Node::Open);
                }
                Event::End(end) => {
                    self.depth = self.depth.saturating_sub(1);
                    local(end.name()).clone_into(&mut self.name);
                    return Ok(Node::Close);
                }
                Event::Text(text) => self.text.push_str(&text.xml10_content()),
                Event::CData(text) => self.text.push_str(&text.xml10_content()),
                Event::GeneralRef(reference) => {
                    let resolved =
                        reference.resolve_char_ref().map_err(|error| MetadataError::Xml(error.to_string()))?;
                    let character = resolved.or_else(|| predefined(&reference.xml10_content()));
                    self.text.push(character.ok_or_else(|| MetadataError::Xml("an unknown entity".into()))?);
                }
                Event::Eof if self.depth > 0 => return Err(MetadataError::Xml("it ends in the middle".into())),
                Event::Eof => return Ok(Node::End),
                Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
            }
            if self.text.len() > MAXIMUM_TEXT {
                return Err(MetadataError::TooLarge("a text is longer than 1 MiB"));
            }
        }
    }

    pub fn attribute(&self, name: &str) -> Option<&str> {
        let used = &self.attributes.entries[..self.attributes.used];
        used.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The text of the element that just opened; it closes. Elements inside are passed over.
    pub fn text(&mut self) -> Result<String, MetadataError> {
        let mut text = String::new();
        let mut inside = 1;
        while inside > 0 {
            match self.next()? {
                Node::Open => inside += 1,
                Node::Close => {
                    inside -= 1;
                    text.push_str(&self.text);
                    self.text.clear();
                }
                Node::End => return Err(MetadataError::Xml("it ends in the middle".into())),
            }
        }
        Ok(text)
    }
}

/// Of the element that opened last. The texts' memory is used again: a distribution's metadata has millions of them.
#[derive(Default)]
struct Attributes {
    entries: Vec<(String, String)>,
    used: usize,
}

fn open(name: &mut String, attributes: &mut Attributes, start: &BytesStart<'_>) -> Result<(), MetadataError> {
    local(start.name()).clone_into(name);
    attributes.used = 0;
    for attribute in start.attributes().with_checks(false) {
        let attribute = attribute.map_err(|error| MetadataError::Xml(error.to_string()))?;
        let value = attribute
            .normalized_value(XmlVersion::Implicit1_0)
            .map_err(|error| MetadataError::Xml(error.to_string()))?;
        if attributes.used == attributes.entries.len() {
            attributes.entries.push(Default::default());
        }
        let (key, text) = &mut attributes.entries[attributes.used];
        local(attribute.key).clone_into(key);
        (*value).clone_into(text);
        attributes.used += 1;
    }
    Ok(())
}

fn local(name: QName<'_>) -> &str {
    let name: &str = name.into_inner();
    name.rsplit_once(':').map_or(name, |(_, local)| local)
}

fn predefined(name: &str) -> Option<char> {
    Some(match name {
        "lt" => '<',
        "gt" => '>',
        "amp" => '&',
        "quot" => '"',
        "apos" => '\'',
        _ => return None,
    })
}

/// Fails when too much is read for one event.
struct Limited<R> {
    inner: R,
    budget: Rc<Cell<u64>>,
    left: u64,
}

impl<R: BufRead> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.spend(count)?;
        Ok(count)
    }
}

impl<R: BufRead> BufRead for Limited<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.budget.get() == 0 || self.left == 0 {
            return Err(io::Error::other("an element or the file is too large"));
        }
        self.inner.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        // What is too much is told by the next call that can fail.
        let _ = self.spend(amount);
        self.inner.consume(amount);
    }
}

impl<R> Limited<R> {
    fn spend(&mut self, count: usize) -> io::Result<()> {
        self.budget.set(self.budget.get().saturating_sub(count as u64));
        self.left = self.left.saturating_sub(count as u64);
        match self.budget.get() == 0 || self.left == 0 {
            true => Err(io::Error::other("an element or the file is too large")),
            false => Ok(()),
        }
    }
}

//! `sifbuild compare`: in what two SIF images differ, object by object and file by file.

use super::build::{Stop, finish};
use super::sif::open;
use super::{exit, render_error};
use crate::sif::dump;
use crate::sif::format::{DataType, Descriptor, FileSystem};
use crate::sif::reader::Sif;
use crate::squashfs::{self, Image, Window, differing_bytes};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Show in what two SIF images differ
#[derive(clap::Args, Clone, Debug)]
pub struct CompareArguments {
    pub first: PathBuf,
    pub second: PathBuf,
}

pub fn run(arguments: &CompareArguments) -> u8 {
    match differences(&arguments.first, &arguments.second) {
        Ok(lines) if lines.is_empty() => exit::SUCCESS,
        Ok(lines) => {
            let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
            match std::io::stdout().write_all(text.as_bytes()) {
                Ok(()) => exit::DIFFERENCE,
                Err(error) => {
                    render_error(&format!("cannot write the differences: {error}"));
                    exit::OUTPUT
                }
            }
        }
        Err(stop) => finish(Err(stop)),
    }
}

/// One line a difference, both values in the order of the images; none where all bytes are equal.
pub fn differences(first: &Path, second: &Path) -> Result<Vec<String>, Stop> {
    let fault = |cause: String| Stop { text: cause, code: exit::SOURCE };
    let read = |path: &Path| open(path).map_err(|error| fault(error.to_string()));
    let (mut one, mut other) = (read(first)?, read(second)?);
    let mut lines = rows("header", &dump::header(one.header()), &dump::header(other.header()));
    for pair in pairs(one.objects().cloned(), other.objects().cloned()) {
        match pair {
            (Some(object), Some(there)) => {
                let name = subject(&object);
                lines.extend(rows(&name, &dump::info(&object), &dump::info(&there)));
                let found = contents(&name, (&mut one, &object), (&mut other, &there));
                lines.extend(found.map_err(|cause| fault(format!("{name}: {cause}")))?);
            }
            (Some(object), None) => lines.push(format!("{}: only in the first image", subject(&object))),
            (_, object) => lines.extend(object.map(|object| format!("{}: only in the second image", subject(&object)))),
        }
    }
    if lines.is_empty() {
        let whole = |sif: &mut Sif<File>| sif.size();
        let sizes = whole(&mut one).and_then(|size| Ok((size, whole(&mut other)?)));
        let found = sizes.and_then(|(size, there)| differing_bytes(one.window(0, size), other.window(0, there)));
        lines
            .extend(found.map_err(|error| fault(error.to_string()))?.map(|what| format!("outside of objects: {what}")));
    }
    Ok(lines)
}

/// Each object with its counterpart: the one of its kind, then of its type and name, then of its type and id.
fn pairs(
    one: impl Iterator<Item = Descriptor>,
    other: impl Iterator<Item = Descriptor>,
) -> Vec<(Option<Descriptor>, Option<Descriptor>)> {
    type Rule = fn(&Descriptor, &Descriptor) -> bool;
    const RULES: [Rule; 4] = [
        |object, there| object.is_primary_partition() && there.is_primary_partition(),
        |object, there| object.data_type == DataType::DEFFILE && there.data_type == DataType::DEFFILE,
        |object, there| object.data_type == there.data_type && object.name == there.name,
        |object, there| object.data_type == there.data_type && object.id == there.id,
    ];
    let mut pairs: Vec<_> = one.map(|object| (Some(object), None)).collect();
    let mut rest: Vec<Descriptor> = other.collect();
    for rule in RULES {
        for (object, counterpart) in pairs.iter_mut().filter(|(_, counterpart)| counterpart.is_none()) {
            let found = rest.iter().position(|there| object.as_ref().is_some_and(|object| rule(object, there)));
            *counterpart = found.map(|at| rest.remove(at));
        }
    }
    pairs.extend(rest.into_iter().map(|there| (None, Some(there))));
    pairs
}

fn subject(object: &Descriptor) -> String {
    format!("object {} ({})", object.id, object.data_type)
}

/// Lines that only one of two texts of the same shape has.
fn rows(subject: &str, first: &str, second: &str) -> Vec<String> {
    let only = |text: &str, other: &str| -> String {
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let there: Vec<String> = other.lines().map(words).collect();
        text.lines().map(words).filter(|line| !there.contains(line)).collect::<Vec<_>>().join("; ")
    };
    let (here, there) = (only(first, second), only(second, first));
    if here.is_empty() && there.is_empty() { Vec::new() } else { vec![format!("{subject}: {here} / {there}")] }
}

/// File by file where both are file systems that can be read; in bytes where they are not, or have the same files.
fn contents(
    name: &str,
    (one, object): (&mut Sif<File>, &Descriptor),
    (other, there): (&mut Sif<File>, &Descriptor),
) -> Result<Vec<String>, String> {
    let differing = differing_bytes(one.open(object), other.open(there)).map_err(|error| error.to_string())?;
    let Some(what) = differing else { return Ok(Vec::new()) };
    let has_files =
        |object: &Descriptor| object.partition().is_some_and(|partition| partition.file_system == FileSystem::SQUASHFS);
    if !has_files(object) || !has_files(there) {
        return Ok(vec![format!("{name}: {what}")]);
    }
    let image = |sif: &Sif<File>, object: &Descriptor| {
        let file = sif.file().try_clone().map_err(|error| error.to_string())?;
        Image::open(Window::new(file, object.offset as u64, object.size as u64)).map_err(|error| error.to_string())
    };
    let found = squashfs::compare(&image(one, object)?, &image(other, there)?).map_err(|error| error.to_string())?;
    if found.is_empty() {
        return Ok(vec![format!("{name}: the same files, stored in another way; {what}")]);
    }
    Ok(found.iter().map(|one| format!("/{}: {}", one.path.as_bytes().escape_ascii(), one.what.join("; "))).collect())
}

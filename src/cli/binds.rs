//! `--bind` and `--mount` (facts §3).

use super::build::Stop;
use crate::sandbox::Bind;
use std::path::PathBuf;

/// `--bind` (commas separate) and `--mount`.
pub fn binds(specs: &[String], mounts: &[String]) -> Result<Vec<Bind>, Stop> {
    let mut binds = Vec::new();
    for spec in specs.iter().flat_map(|specs| specs.split(',')).filter(|spec| !spec.is_empty()) {
        let parts: Vec<&str> = spec.split(':').collect();
        let (source, destination, read_only) = match parts.as_slice() {
            [source] => (*source, *source, false),
            [source, destination] => (*source, *destination, false),
            [source, destination, "ro"] => (*source, *destination, true),
            [source, destination, "rw"] => (*source, *destination, false),
            _ => return Err(Stop::usage(format!("--bind {spec}: it is SOURCE[:DESTINATION[:ro|rw]]"))),
        };
        binds.push(bind(source, destination, read_only, spec)?);
    }
    for spec in mounts.iter().filter(|spec| !spec.trim().is_empty()) {
        let mut fields = std::collections::BTreeMap::new();
        for field in spec.split(',') {
            let (name, value) = field.split_once('=').unwrap_or((field, ""));
            fields.insert(name.trim(), value.trim());
        }
        let get = |names: &[&str]| names.iter().find_map(|name| fields.get(name)).copied();
        let (Some("bind"), Some(source), Some(destination)) =
            (get(&["type"]), get(&["source", "src"]), get(&["destination", "dst", "target"]))
        else {
            return Err(Stop::usage(format!("--mount {spec}: it is type=bind,source=…,destination=…[,ro]")));
        };
        binds.push(bind(source, destination, get(&["ro", "readonly"]).is_some(), spec)?);
    }
    Ok(binds)
}

fn bind(source: &str, destination: &str, read_only: bool, spec: &str) -> Result<Bind, Stop> {
    let source = std::path::absolute(source).map_err(|error| Stop::usage(format!("bind {spec}: {error}")))?;
    if !source.exists() {
        return Err(Stop::usage(format!("bind {spec}: {} does not exist on this host", source.display())));
    }
    if !destination.starts_with('/') {
        return Err(Stop::usage(format!("bind {spec}: the destination must be an absolute path in the image")));
    }
    Ok(Bind { source, destination: PathBuf::from(destination), read_only })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(specs: &[&str], mounts: &[&str]) -> Result<Vec<String>, String> {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let show = |bind: &Bind| format!("{} {} {}", bind.source.display(), bind.destination.display(), bind.read_only);
        let found = binds(&owned(specs), &owned(mounts)).map_err(|stop| stop.text)?;
        Ok(found.iter().map(show).collect())
    }

    #[test]
    fn both_forms_are_read() {
        let found = told(
            &["/usr,/etc:/mnt", "/usr:/x:ro"],
            &["type=bind,source=/usr,destination=/y,ro", "type=bind,src=/usr,dst=/z"],
        );
        let expected = ["/usr /usr false", "/etc /mnt false", "/usr /x true", "/usr /y true", "/usr /z false"];
        assert_eq!(found, Ok(expected.map(str::to_owned).to_vec()));
    }

    #[test]
    fn what_is_wrong_is_told_with_the_text_that_was_given() {
        for (specs, mounts, expected) in [
            (&["/usr:/x:rx"][..], &[][..], "--bind /usr:/x:rx: it is SOURCE"),
            (&["/absent/here"], &[], "bind /absent/here: /absent/here does not exist on this host"),
            (&["/usr:relative"], &[], "bind /usr:relative: the destination must be an absolute path"),
            (&[], &["type=tmpfs,destination=/x"], "--mount type=tmpfs,destination=/x: it is type=bind"),
        ] {
            let text = told(specs, mounts).unwrap_err();
            assert!(text.starts_with(expected), "{text}");
        }
    }
}

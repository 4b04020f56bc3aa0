use super::*;

fn surroundings(caller: &[(&str, &str)]) -> Surroundings {
    let caller = caller.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    Surroundings { caller, home: "/home/ann".into(), ..Surroundings::default() }
}

/// What a shell on this host has after the prologue, in a place without an image's scripts.
fn after_prologue(surroundings: &Surroundings, name: &str) -> Option<String> {
    let mut text = surroundings.prologue(Action::Exec);
    let end = text.windows(9).rposition(|window| window == b"case \"$1\"").unwrap();
    text.truncate(end);
    text.extend_from_slice(format!("\n[ -n \"${{{name}+x}}\" ] && printf '<%s>' \"${name}\"\n").as_bytes());
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let mut command = std::process::Command::new("/bin/sh");
    command.arg(file.path()).env_clear().envs(surroundings.first());
    let said = String::from_utf8(command.output().unwrap().stdout).unwrap();
    said.strip_prefix('<').and_then(|text| text.strip_suffix('>')).map(str::to_owned)
}

#[test]
fn values_go_through_a_shell_unchanged() {
    let nasty = "a 'b' \"c\" $HOME `id` \\ \n end";
    let found = surroundings(&[("NASTY", nasty), ("APPTAINERENV_GIVEN", nasty)]);
    assert_eq!(after_prologue(&found, "NASTY").as_deref(), Some(nasty));
    assert_eq!(after_prologue(&found, "GIVEN").as_deref(), Some(nasty));
}

#[test]
fn what_is_given_for_the_container_wins_over_what_the_caller_has() {
    let mut found = surroundings(&[("A", "caller"), ("SINGULARITYENV_A", "weak"), ("APPTAINERENV_A", "strong")]);
    assert_eq!(after_prologue(&found, "A").as_deref(), Some("strong"));
    found.given.push(("A".to_owned(), "flag".to_owned()));
    assert_eq!(after_prologue(&found, "A").as_deref(), Some("flag"));
    assert_eq!(found.plain(Action::Exec).iter().find(|(name, _)| name == "A").unwrap().1, "flag");
}

#[test]
fn the_path_is_the_containers_and_can_be_added_to() {
    let path = |caller: &[(&str, &str)]| after_prologue(&surroundings(caller), "PATH");
    assert_eq!(path(&[("PATH", "/host")]).as_deref(), Some(DEFAULT_PATH));
    assert_eq!(path(&[("APPTAINERENV_PREPEND_PATH", "/pre")]), Some(format!("/pre:{DEFAULT_PATH}")));
    assert_eq!(path(&[("APPTAINERENV_APPEND_PATH", "/app")]), Some(format!("{DEFAULT_PATH}:/app")));
    assert_eq!(path(&[("APPTAINERENV_PATH", "/only"), ("APPTAINERENV_APPEND_PATH", "/app")]).as_deref(), Some("/only"));
    assert_eq!(after_prologue(&surroundings(&[("PATH", "/host")]), "USER_PATH").as_deref(), Some("/host"));
    assert_eq!(after_prologue(&surroundings(&[]), "SING_USER_DEFINED_PATH"), None);
}

#[test]
fn a_clean_environment_has_the_terminal_and_proxies_only() {
    let mut found =
        surroundings(&[("TERM", "xterm"), ("HTTPS_PROXY", "p"), ("LANG", "de"), ("X", "1"), ("APPTAINERENV_Y", "2")]);
    found.clean = true;
    let value = |name: &str| after_prologue(&found, name);
    assert_eq!(value("TERM").as_deref(), Some("xterm"));
    assert_eq!(value("HTTPS_PROXY").as_deref(), Some("p"));
    assert_eq!(value("LANG").as_deref(), Some("C"));
    assert_eq!(value("X"), None);
    assert_eq!(value("Y").as_deref(), Some("2"));
    assert_eq!(value("USER_PATH"), None);
}

#[test]
fn variables_of_the_program_and_of_shells_stay_behind() {
    let found = surroundings(&[
        ("APPTAINER_TMPDIR", "/x"),
        ("SIFBUILD_CACHEDIR", "/y"),
        ("UID", "7"),
        ("IFS", "x"),
        ("bad-name", "z"),
        ("BASH_FUNC_f%%", "() { :; }"),
        ("HOME", "/elsewhere"),
    ]);
    assert_eq!(after_prologue(&found, "APPTAINER_TMPDIR"), None);
    assert_eq!(after_prologue(&found, "SIFBUILD_CACHEDIR"), None);
    assert_eq!(after_prologue(&found, "HOME").as_deref(), Some("/home/ann"));
    assert_eq!(after_prologue(&found, "PS1").as_deref(), Some("Apptainer> "));
}

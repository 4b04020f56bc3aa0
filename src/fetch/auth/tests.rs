use super::*;

fn file(text: &str) -> AuthFile {
    AuthFile::parse(text.as_bytes(), Path::new("config.json")).unwrap()
}

fn entry(file: &AuthFile, registry: &str, repository: &str) -> Option<(String, String)> {
    let (key, credential) = file.entry(Path::new("config.json"), registry, repository).unwrap()?;
    match credential {
        Credential::Password { user, password } => Some((key, format!("{user}:{}", password.reveal()))),
        Credential::IdentityToken(token) => Some((key, format!("identity {}", token.reveal()))),
        Credential::RegistryToken(token) => Some((key, format!("registry {}", token.reveal()))),
    }
}

#[test]
fn prefers_the_longest_key_of_a_namespace() {
    let file = file(
        r#"{"auths":{
            "quay.io":{"auth":"aG9zdDox"},
            "quay.io/org":{"username":"org","password":"2"},
            "quay.io/org/app":{"identitytoken":"3"},
            "https://ghcr.io/v2/":{"registrytoken":"4"}}}"#,
    );
    let of = |registry: &str, repository: &str| entry(&file, registry, repository);
    let pair = |key: &str, value: &str| Some((key.to_owned(), value.to_owned()));
    assert_eq!(of("quay.io", "other/x"), pair("quay.io", "host:1"));
    assert_eq!(of("quay.io", "org/other"), pair("quay.io/org", "org:2"));
    assert_eq!(of("quay.io", "org/app"), pair("quay.io/org/app", "identity 3"));
    assert_eq!(of("quay.io", "organisation/x"), pair("quay.io", "host:1"));
    assert_eq!(of("ghcr.io", "x/y"), pair("https://ghcr.io/v2/", "registry 4"));
    assert_eq!(of("example.com", "x"), None);
}

#[test]
fn finds_docker_hub_under_each_of_its_names() {
    for key in ["https://index.docker.io/v1/", "index.docker.io", "docker.io", "registry-1.docker.io"] {
        let file = file(&format!(r#"{{"auths":{{"{key}":{{"auth":"dTpw"}}}}}}"#));
        assert_eq!(entry(&file, "docker.io", "library/alpine").unwrap().1, "u:p", "{key}");
    }
}

#[test]
fn passes_over_the_empty_entries_that_a_store_leaves() {
    let file = file(r#"{"auths":{"quay.io":{}},"credsStore":"desktop","credHelpers":{"gcr.io":"gcloud"}}"#);
    assert_eq!(entry(&file, "quay.io", "a/b"), None);
    assert_eq!(file.helper("quay.io"), Some(("desktop".to_owned(), "quay.io".to_owned())));
    assert_eq!(file.helper("gcr.io"), Some(("gcloud".to_owned(), "gcr.io".to_owned())));
    assert_eq!(file.helper("docker.io").unwrap().1, "https://index.docker.io/v1/");
}

#[test]
fn reads_auth_without_padding_and_with_a_colon_in_the_password() {
    // "user:pa:ss" without "==".
    let file = file(r#"{"auths":{"a.b":{"auth":"dXNlcjpwYTpzcw"}}}"#);
    assert_eq!(entry(&file, "a.b", "x").unwrap().1, "user:pa:ss");
}

#[test]
fn a_damaged_file_is_a_warning_that_holds_no_secret() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.json");
    std::fs::write(&path, r#"{"auths":{"a.b":{"auth":"c2VjcmV0"}, "c.d": "hunter2"}}"#).unwrap();
    let credentials = Credentials { files: vec![path.clone()], ..Credentials::default() };
    let lookup = credentials.lookup("a.b", "x");
    assert_eq!(lookup.found, None);
    assert_eq!(lookup.warnings.len(), 1);
    assert!(lookup.warnings[0].contains("config.json is damaged"), "{}", lookup.warnings[0]);
    assert!(!lookup.warnings[0].contains("hunter2"), "{}", lookup.warnings[0]);
    std::fs::write(&path, r#"{"auths":{"a.b":{"auth":"c2VjcmV0"}}}"#).unwrap();
    let lookup = credentials.lookup("a.b", "x");
    assert!(lookup.warnings[0].contains("entry a.b"), "{}", lookup.warnings[0]);
    assert_eq!(credentials.lookup("e.f", "x").searched, [path]);
}

#[test]
fn debug_text_holds_no_secret() {
    let credentials =
        Credentials { explicit: Some(("bob".to_owned(), Secret::new("hunter2"))), ..Credentials::default() };
    let text = format!("{credentials:?} {:?}", credentials.lookup("a", "b"));
    assert!(text.contains("bob") && !text.contains("hunter2"), "{text}");
}

#[test]
fn looks_where_the_environment_points() {
    let variables = |name: &str| {
        let value = match name {
            "HOME" => "/home/u",
            "DOCKER_CONFIG" => "/d",
            "REGISTRY_AUTH_FILE" => "/r/auth.json",
            "XDG_RUNTIME_DIR" => "/run/user/1",
            "APPTAINER_DOCKER_USERNAME" => "a",
            "SIFBUILD_DOCKER_USERNAME" => "s",
            "SINGULARITY_DOCKER_PASSWORD" => "p",
            "APPTAINER_AUTH_FILE" => "/auth",
            _ => return None,
        };
        Some(value.to_owned())
    };
    let credentials = Credentials::from_environment(&variables);
    assert_eq!(credentials.explicit, Some(("s".to_owned(), Secret::new("p"))));
    assert_eq!(credentials.authfile.as_deref(), Some(Path::new("/auth")));
    let files: Vec<String> = credentials.files.iter().map(|path| path.display().to_string()).collect();
    assert_eq!(
        files,
        [
            "/home/u/.apptainer/docker-config.json",
            "/d/config.json",
            "/home/u/.docker/config.json",
            "/r/auth.json",
            "/run/user/1/containers/auth.json",
            "/home/u/.config/containers/auth.json"
        ]
    );
}

#[test]
fn helpers_are_asked_and_bounded() {
    use std::os::unix::fs::PermissionsExt;
    use std::time::{Duration, Instant};
    let directory = tempfile::tempdir().unwrap();
    let place = |name: &str, body: &str| {
        let path = directory.path().join(format!("docker-credential-{name}"));
        std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    place("good", r#"read server; echo "{\"ServerURL\":\"x\",\"Username\":\"$1-$server\",\"Secret\":\"s\"}""#);
    place("token", r#"echo '{"Username":"<token>","Secret":"t"}'"#);
    place("none", "echo 'credentials not found in native keychain'; exit 1");
    place("bad", "echo hunter2; exit 3");
    place("endless", "while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done");
    place("slow", "sleep 60");
    let path = format!("{}:{}", directory.path().display(), std::env::var("PATH").unwrap_or_default());
    let get = |name: &str| program::get_in(name, "quay.io", Duration::from_secs(5), Some(path.as_str()));
    assert_eq!(
        get("good").unwrap(),
        Some(Credential::Password { user: "get-quay.io".to_owned(), password: Secret::new("s") })
    );
    assert_eq!(get("token").unwrap(), Some(Credential::IdentityToken(Secret::new("t"))));
    assert_eq!(get("none").unwrap(), None);
    let bad = get("bad").unwrap_err().to_string();
    assert!(bad.contains("docker-credential-bad failed") && !bad.contains("hunter2"), "{bad}");
    assert!(get("endless").unwrap_err().to_string().contains("too long"));
    assert!(get("../bad").unwrap_err().to_string().contains("not a plain program name"));
    assert!(get("missing").unwrap_err().to_string().contains("is it installed"));
    let start = Instant::now();
    let slow = program::get_in("slow", "x", Duration::from_millis(200), Some(path.as_str())).unwrap_err();
    assert!(slow.to_string().contains("no answer within 0.2 s"), "{slow}");
    assert!(start.elapsed() < Duration::from_secs(20));
}

proptest::proptest! {
    #[test]
    fn never_panics_on_any_file(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        let _ = AuthFile::parse(&bytes, Path::new("x"));
    }

    #[test]
    fn never_panics_on_any_entry(key in ".{0,30}", auth in ".{0,30}", registry in ".{0,20}", repository in ".{0,20}") {
        let text = serde_json::json!({"auths": {key.as_str(): {"auth": auth}}, "credsStore": key}).to_string();
        let file = AuthFile::parse(text.as_bytes(), Path::new("x")).unwrap();
        let _ = file.entry(Path::new("x"), &registry, &repository);
        let _ = file.helper(&registry);
    }
}

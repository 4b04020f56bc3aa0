//! The docker agent against the real `docker-registry`: TLS by a private authority, logins, mirrors, plain HTTP.
//!
//! The image is made by umoci and pushed by skopeo, so that nothing of ours is on the other side.

use base64::Engine as _;
use sifbuild::agent::ImageBase;
use sifbuild::agent::docker::{self, DockerError, DockerPin};
use sifbuild::arch::Arch;
use sifbuild::definition::RegistryBase;
use sifbuild::digest::Digest;
use sifbuild::event::Silent;
use sifbuild::fetch::auth::Credentials;
use sifbuild::fetch::client::{Client, ClientOptions};
use sifbuild::fetch::registry::{Configuration, Registry};
use sifbuild::fetch::retry::Patience;
use sifbuild::oci::manifest::Target;
use sifbuild::source::{Span, Spanned};
use sifbuild::store::LayerBlob;
use std::io::{ErrorKind, Read};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// bcrypt of `s3cret`.
const HTPASSWD: &str = "bob:$2b$04$wOORJ76qc5gRRIjwp/HvS.Di/pHr02F.qovG5bKAmvkBlIa2SZNkm\n";

/// Runs a program to its end; its output when it succeeds.
fn run(program: &str, package: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|error| match error.kind() {
        ErrorKind::NotFound => panic!("{program} is missing: apt-get install {package}"),
        _ => panic!("{program}: {error}"),
    });
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {text}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// A private authority and a certificate for this machine's loopback address.
fn make_certificates(directory: &Path) {
    let at = |name: &str| text(&directory.join(name));
    let openssl = |arguments: &[&str]| run("openssl", "openssl", arguments);
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let (authority_key, authority) = (at("ca.key"), at("ca.crt"));
    let mut arguments = vec!["req", "-x509", "-days", "2", "-subj", "/CN=test authority"];
    arguments.extend(["-keyout", &authority_key, "-out", &authority]);
    arguments.extend(key);
    openssl(&arguments);
    let (server_key, request, server, extensions) =
        (at("server.key"), at("server.csr"), at("server.crt"), at("extensions"));
    std::fs::write(&extensions, "subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=serverAuth\n").unwrap();
    let mut arguments = vec!["req", "-subj", "/CN=localhost", "-keyout", &server_key, "-out", &request];
    arguments.extend(key);
    openssl(&arguments);
    openssl(&[
        "x509",
        "-req",
        "-in",
        &request,
        "-CA",
        &authority,
        "-CAkey",
        &authority_key,
        "-CAcreateserial",
        "-days",
        "2",
        "-extfile",
        &extensions,
        "-out",
        &server,
    ]);
}

/// A layout with two layers, a command and a label.
fn make_image(directory: &Path) -> PathBuf {
    let layout = directory.join("layout");
    let image = format!("{}:latest", text(&layout));
    let umoci = |arguments: &[&str]| run("umoci", "umoci", arguments);
    umoci(&["init", "--layout", &text(&layout)]);
    umoci(&["new", "--image", &image]);
    let file = directory.join("file");
    for (content, target) in [("first layer", "/first"), ("second layer", "/second")] {
        // Whole tar blocks: `umoci insert` ends its tar without padding and trailer, which the reader in this test does not forgive.
        std::fs::write(&file, content.repeat(10_240)).unwrap();
        umoci(&["insert", "--rootless", "--image", &image, &text(&file), target]);
    }
    umoci(&["config", "--image", &image, "--config.cmd", "/first", "--config.label", "made.by=umoci"]);
    layout
}

/// A registry that ends with the test.
struct RealRegistry {
    process: Child,
    host: String,
}

impl RealRegistry {
    fn start(directory: &Path, secure: bool) -> RealRegistry {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let host = format!("127.0.0.1:{port}");
        let at = |name: &str| text(&directory.join(name));
        let name = if secure { "secure" } else { "plain" };
        let mut configuration = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {host}\n",
            at(&format!("{name}-storage"))
        );
        if secure {
            std::fs::write(at("htpasswd"), HTPASSWD).unwrap();
            configuration.push_str(&format!(
                "  tls:\n    certificate: {}\n    key: {}\nauth:\n  htpasswd:\n    realm: test\n    path: {}\n",
                at("server.crt"),
                at("server.key"),
                at("htpasswd")
            ));
        }
        let file = directory.join(format!("{name}.yml"));
        std::fs::write(&file, configuration).unwrap();
        let log = std::fs::File::create(at(&format!("{name}.log"))).unwrap();
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("docker-registry: {error}: apt-get install docker-registry"));
        let registry = RealRegistry { process, host };
        let end = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(&registry.host).is_err() {
            let log = std::fs::read_to_string(at(&format!("{name}.log"))).unwrap_or_default();
            assert!(Instant::now() < end, "docker-registry does not answer: {log}");
            std::thread::sleep(Duration::from_millis(20));
        }
        registry
    }
}

impl Drop for RealRegistry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

struct World {
    directory: tempfile::TempDir,
    registry: RealRegistry,
}

impl World {
    /// `org/app:1.0` in a registry, secure with a login or plain without.
    fn new(secure: bool) -> World {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_owned();
        if secure {
            make_certificates(&path);
        }
        let layout = make_image(&path);
        let registry = RealRegistry::start(&path, secure);
        let trusted = path.join("certs.d").join(&registry.host);
        std::fs::create_dir_all(&trusted).unwrap();
        let source = format!("oci:{}:latest", text(&layout));
        let target = format!("docker://{}/org/app:1.0", registry.host);
        let trusted_text = text(&trusted);
        let mut arguments = vec!["--insecure-policy", "copy"];
        if secure {
            std::fs::copy(path.join("ca.crt"), trusted.join("ca.crt")).unwrap();
            arguments.extend(["--dest-cert-dir", &trusted_text, "--dest-creds", "bob:s3cret"]);
        } else {
            arguments.push("--dest-tls-verify=false");
        }
        arguments.extend([source.as_str(), target.as_str()]);
        run("skopeo", "skopeo", &arguments);
        World { directory, registry }
    }

    fn client(&self, trusted: bool) -> Client {
        let directories = if trusted { vec![self.directory.path().join("certs.d")] } else { Vec::new() };
        let patience =
            Patience { retries: 1, first_wait: Duration::from_millis(10), jitter: false, ..Patience::default() };
        let options = ClientOptions {
            environment_proxies: false,
            certificate_directories: directories,
            patience,
            ..ClientOptions::default()
        };
        Client::new(options).unwrap()
    }

    fn login(&self, user: &str, password: &str) -> Credentials {
        let auth = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        let path = self.directory.path().join(format!("{user}.json"));
        std::fs::write(&path, format!(r#"{{"auths":{{"{}/org":{{"auth":"{auth}"}}}}}}"#, self.registry.host)).unwrap();
        Credentials { authfile: Some(path), ..Credentials::default() }
    }

    fn base(&self, name: &str) -> RegistryBase {
        let from = Spanned::new(format!("{}/org/{name}", self.registry.host), Span::default());
        RegistryBase { from, registry: None, namespace: None }
    }

    fn blobs(&self) -> PathBuf {
        self.directory.path().join("blobs")
    }

    fn pin(&self, registry: &Registry<'_>, base: &RegistryBase) -> Result<DockerPin, DockerError> {
        docker::pin(base, &Target::new(Arch::host(), None), registry, &self.blobs(), &Silent)
    }
}

/// The files of a layer's tar, by name and length.
fn entries(layer: &LayerBlob) -> Vec<(String, u64)> {
    let mut bytes = Vec::new();
    layer.open_tar().unwrap().read_to_end(&mut bytes).unwrap();
    let mut archive = tar::Archive::new(bytes.as_slice());
    let entry = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
        let entry = entry.unwrap();
        (entry.path().unwrap().display().to_string(), entry.size())
    };
    archive.entries().unwrap().map(entry).collect()
}

fn check(image: &ImageBase) {
    assert_eq!(image.config.cmd, ["/first"]);
    assert_eq!(image.config.labels["made.by"], "umoci");
    let layers: Vec<Vec<(String, u64)>> = image.layers.iter().map(entries).collect();
    assert_eq!(layers.len(), 2);
    assert!(layers[0].iter().any(|(name, size)| name.ends_with("first") && *size == 112_640), "{layers:?}");
    assert!(layers[1].iter().any(|(name, size)| name.ends_with("second") && *size == 122_880), "{layers:?}");
}

#[test]
fn pulls_over_a_private_authority_with_a_login_and_needs_no_network_afterwards() {
    let world = World::new(true);
    let client = world.client(true);
    let registry = Registry::new(&client, world.login("bob", "s3cret"), Configuration::default(), false);
    let pin = world.pin(&registry, &world.base("app:1.0")).unwrap();
    let manifest = run(
        "skopeo",
        "skopeo",
        &["inspect", "--raw", &format!("oci:{}:latest", text(&world.directory.path().join("layout")))],
    );
    assert_eq!(pin.manifest_digest, Digest::of(manifest.as_bytes()));
    let image = docker::provide(&pin, &registry, &world.blobs(), 3, &Silent).unwrap();
    check(&image);

    let missing = world.pin(&registry, &world.base("app:2.0")).unwrap_err().to_string();
    assert!(missing.contains("has no ") && missing.contains("/org/app:2.0 (404: manifest unknown)"), "{missing}");

    let World { directory, registry: server } = world;
    drop(server);
    assert_eq!(docker::provide(&pin, &registry, &directory.path().join("blobs"), 3, &Silent).unwrap(), image);
}

#[test]
fn says_what_a_registry_refused_and_why() {
    let world = World::new(true);
    let client = world.client(true);
    let refusal = |credentials: Credentials| {
        let registry = Registry::new(&client, credentials, Configuration::default(), false);
        world.pin(&registry, &world.base("app:1.0")).unwrap_err().to_string()
    };
    let wrong = refusal(world.login("mallory", "hunter2"));
    assert!(wrong.contains("mallory.json entry") && wrong.contains("(user mallory)"), "{wrong}");
    assert!(wrong.contains("docker login") && !wrong.contains("hunter2"), "{wrong}");
    let anonymous = refusal(Credentials::default());
    assert!(anonymous.contains("no login, as there is no credential file"), "{anonymous}");

    let untrusting = world.client(false);
    let registry = Registry::new(&untrusting, world.login("bob", "s3cret"), Configuration::default(), false);
    let unknown = world.pin(&registry, &world.base("app:1.0")).unwrap_err().to_string();
    assert!(unknown.contains("no secure connection") && unknown.contains("certs.d"), "{unknown}");
    let careless = Registry::new(&untrusting, world.login("bob", "s3cret"), Configuration::default(), true);
    world.pin(&careless, &world.base("app:1.0")).unwrap();
}

#[test]
fn pulls_from_a_mirror_and_over_plain_http_where_allowed() {
    let world = World::new(false);
    let client = world.client(false);
    let strict = Registry::new(&client, Credentials::default(), Configuration::default(), false);
    let refused = world.pin(&strict, &world.base("app:1.0")).unwrap_err().to_string();
    assert!(refused.contains("--no-https"), "{refused}");

    let careless = Registry::new(&client, Credentials::default(), Configuration::default(), true);
    let direct = world.pin(&careless, &world.base("app:1.0")).unwrap();

    let text = format!(
        "[[registry]]\nprefix='registry.invalid/team'\n[[registry.mirror]]\nlocation='{}/org'\ninsecure=true\n",
        world.registry.host
    );
    let mut configuration = Configuration::default();
    configuration.add(&text, Path::new("registries.conf")).unwrap();
    let mirrored = Registry::new(&client, Credentials::default(), configuration, false);
    let from = Spanned::new("registry.invalid/team/app:1.0".to_owned(), Span::default());
    let base = RegistryBase { from, registry: None, namespace: None };
    let pin = world.pin(&mirrored, &base).unwrap();
    assert_eq!(pin.manifest_digest, direct.manifest_digest);
    assert_eq!(pin.reference.to_string(), "registry.invalid/team/app:1.0");
    check(&docker::provide(&pin, &mirrored, &world.blobs(), 1, &Silent).unwrap());
}

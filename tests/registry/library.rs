//! Images from a library service and from web servers.

use super::place::Place;
use sifbuild::arch::Arch;
use sifbuild::digest::Digest;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

/// Answers what `answer` gives for the target of a request: a status and a body. Lives as long as the test program.
fn serve(answer: impl Fn(&str) -> (u16, Vec<u8>) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
            let first = lines.next().unwrap_or_default();
            lines.find(String::is_empty);
            let (status, body) = answer(first.split(' ').nth(1).unwrap_or_default());
            let head = format!("HTTP/1.1 {status} Said\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
        }
    });
    format!("http://{address}")
}

fn library(image: Vec<u8>) -> String {
    let hash = format!("sha256.{}", Digest::of(&image).hex());
    let arch = Arch::host();
    serve(move |target| {
        let known = ["e/c/n:1", &format!("e/c/n:{hash}")].map(|name| format!("{name}?arch={arch}"));
        let data = format!("{{\"data\":{{\"id\":\"1\",\"hash\":\"{hash}\",\"size\":{}}}}}", image.len());
        match target {
            _ if known.iter().any(|name| target == format!("/v1/images/{name}")) => (200, data.into_bytes()),
            _ if known.iter().any(|name| target == format!("/v1/imagefile/{name}")) => (200, image.clone()),
            _ if target.starts_with("/v1/search?value=n&") => (
                200,
                br#"{"data":{"image":[{"entityName":"e","collectionName":"c","containerName":"n","tags":["1","2"],"arch":"amd64"}]}}"#.to_vec(),
            ),
            _ => (404, b"{\"error\":{\"code\":404}}".to_vec()),
        }
    })
}

#[test]
fn images_of_a_library_are_pulled_and_built_from() {
    let place = Place::new();
    place.build("a.sif", 1000);
    let library = library(place.read("a.sif"));
    place.succeed(&["pull", "--library", &library, "library://e/c/n:1"]);
    assert!(place.read("n_1.sif") == place.read("a.sif"));
    let host = library.strip_prefix("http://").unwrap();
    place.succeed(&["pull", "--no-https", "--disable-cache", "b.sif", &format!("library://{host}/e/c/n:1")]);
    assert!(place.read("b.sif") == place.read("a.sif"));

    place
        .write("x.def", format!("Bootstrap: library\nFrom: e/c/n:1\nLibrary: {library}\n\n%runscript\n  echo hello\n"));
    place.succeed(&["build", "x.sif", "x.def"]);
    place.succeed(&["build", "--offline", "--force", "x.sif", "x.def"]);
    place.succeed(&["build", "--reproducible", "--library", &library, "y.sif", "library://e/c/n:1"]);
    assert!(place.succeed(&["inspect", "-d", "y.sif"]).starts_with("bootstrap: library\nfrom: e/c/n:1"));
    assert_eq!(place.succeed(&["search", "--library", &library, "n"]), "library://e/c/n:1,2  amd64\n");

    let missing = place.fail(4, &["pull", "--library", &library, "z.sif", "library://e/c/n:9"]);
    assert!(missing.contains("has no e/c/n:9 for"), "{missing}");
    let nowhere = place.fail(4, &["pull", "z.sif", "library://e/c/n:1"]);
    assert!(nowhere.contains("no library service is configured"), "{nowhere}");
    assert!(!place.file("z.sif").exists());
}

#[test]
fn a_library_that_serves_other_bytes_gives_no_image() {
    let place = Place::new();
    place.build("a.sif", 1000);
    let image = place.read("a.sif");
    let (digest, size) = (Digest::of(b"other"), image.len());
    let library = serve(move |target| match target.starts_with("/v1/images/") {
        true => {
            let data = format!("{{\"data\":{{\"hash\":\"sha256.{}\",\"size\":{size}}}}}", digest.hex());
            (200, data.into_bytes())
        }
        false => (200, image.clone()),
    });
    let wrong = place.fail(4, &["pull", "--library", &library, "z.sif", "library://e/c/n:1"]);
    assert!(wrong.contains("was expected"), "{wrong}");
    assert!(!place.file("z.sif").exists());
}

#[test]
fn files_of_web_servers_are_pulled_when_they_are_images() {
    let place = Place::new();
    place.build("a.sif", 1000);
    let image = place.read("a.sif");
    let server = serve(move |target| match target {
        "/d/image.sif" => (200, image.clone()),
        "/page.sif" => (200, b"<html>log in here</html>".to_vec()),
        _ => (404, Vec::new()),
    });
    place.succeed(&["pull", &format!("{server}/d/image.sif")]);
    assert!(place.read("image.sif") == place.read("a.sif"));
    let page = place.fail(4, &["pull", &format!("{server}/page.sif")]);
    assert!(page.contains("is no image"), "{page}");
    assert!(place.fail(4, &["pull", &format!("{server}/absent.sif")]).contains("404"));
    let left: Vec<_> = std::fs::read_dir(place.file("")).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with('.')), "{left:?}");
    assert!(!place.file("page.sif").exists());
}

#[test]
fn the_signatures_of_what_is_pulled_are_looked_at() {
    let place = Place::new();
    place.build("a.sif", 1000);
    let keys = place.file("keys").to_string_lossy().into_owned();
    let library = library(place.read("a.sif"));
    let pull = |code: i32, target: &str, flags: &[&str]| {
        let words =
            [&["pull", "--keysdir", &keys, "--library", &library], flags, &[target, "library://e/c/n:1"]].concat();
        let outcome = place.run(&words);
        assert_eq!(outcome.code, Some(code), "{}", outcome.errors);
        assert_eq!(place.file(target).exists(), code == 0, "{}", outcome.errors);
        outcome.errors
    };
    let warned = pull(0, "warned.sif", &[]);
    assert!(warned.contains("/e/c/n:1 is not verified: "), "{warned}");
    assert!(!pull(0, "quiet.sif", &["-U"]).contains("not verified"));
    let asked = pull(8, "asked.sif", &["--require-signed"]);
    assert!(asked.contains("is not verified"), "{asked}");
    place.write("policy", "[[rule]]\nsource = \"library://**\"\nrefuse = \"not from there\"\n");
    let policy = place.file("policy").to_string_lossy().into_owned();
    assert!(pull(8, "refused.sif", &["-U", "--policy", &policy]).contains("not from there"));
}

use super::*;

fn path(text: &str) -> TreePath {
    TreePath::parse(text).unwrap()
}

fn layer(text: &str) -> Layer {
    text::parse(text).unwrap()
}

fn names(tree: &Tree) -> Vec<String> {
    tree.walk().iter().map(|(path, _)| path.to_string()).collect()
}

#[test]
fn text_form_is_read_back_as_written() {
    let text = "d 0755 0 0 5 - /a\nf 4755 1 2 -7 12 /a/x\\x20y user.n=\\x00v\ni 0644 0 0 0 \"hi\\x0a /i\nl 0777 0 0 0 \"/etc /l\nc 0666 0 0 0 1:3 /null\nh /a/x\\x20y /h\nw /gone\no /a\n";
    assert_eq!(text::write(&layer(text)), text);
    assert!(text::parse("f 0 0 0 0 x /a").is_err());
}

#[test]
fn whiteouts_act_on_lower_layers_only() {
    let mut tree = Tree::new();
    tree.apply(&layer("d 0755 0 0 0 - /a\nf 0644 0 0 0 1 /a/old\n"), 0).unwrap();
    tree.apply(&layer("f 0644 0 0 0 1 /a/new\no /a\nw /missing\n"), 1).unwrap();
    assert_eq!(names(&tree), ["/", "/a", "/a/new"]);
}

#[test]
fn puts_follow_a_symlinked_parent_inside_the_root() {
    let mut tree = Tree::new();
    tree.apply(&layer("d 0755 0 0 0 - /usr\nd 0755 0 0 0 - /usr/lib\nl 0777 0 0 0 \"../../usr/lib /lib\n"), 0).unwrap();
    tree.apply(&layer("f 0644 0 0 0 1 /lib/x\n"), 1).unwrap();
    assert_eq!(names(&tree), ["/", "/lib", "/usr", "/usr/lib", "/usr/lib/x"]);
}

#[test]
fn hard_links_share_an_inode_and_must_have_a_target() {
    let mut tree = Tree::new();
    tree.apply(&layer("f 0644 0 0 0 1 /a\nh /a /b\n"), 0).unwrap();
    assert_eq!(tree.get(&path("a")), tree.get(&path("b")));
    assert!(matches!(tree.apply(&layer("h /x /c\n"), 1), Err(ApplyError::LinkTargetMissing { .. })));
}

#[test]
fn symlink_loops_end() {
    let mut tree = Tree::new();
    tree.apply(&layer("l 0777 0 0 0 \"b /a\nl 0777 0 0 0 \"a /b\n"), 0).unwrap();
    assert!(matches!(tree.apply(&layer("f 0644 0 0 0 1 /a/x\n"), 1), Err(ApplyError::TooManySymlinks { .. })));
}

#[test]
fn directories_that_are_made_on_the_way_count() {
    let deep = layer(&format!("f 0644 0 0 0 1 {}/x\n", "/a".repeat(20)));
    assert!(Tree::new().apply_bounded(&deep, 0, 22).is_ok());
    let error = Tree::new().apply_bounded(&deep, 0, 21).unwrap_err();
    assert!(matches!(error, ApplyError::TooManyInodes { limit: 21, .. }), "{error}");
}

#[test]
fn the_root_is_no_hard_link() {
    let error = Tree::new().apply(&layer("f 0644 0 0 0 1 /a\nh /a /\n"), 0).unwrap_err();
    assert!(matches!(error, ApplyError::LinkAsRoot { .. }), "{error}");
}

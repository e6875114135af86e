//! The pages as who looks for one finds them: README leads to each, by what one wants to do.

use std::collections::BTreeSet;
use std::path::Path;

use super::{Document, report};

#[test]
fn readme_leads_to_every_page() {
    let readme = Document::read("README.md");
    let (_, index) = readme.prose.split_once("\n## I want to …\n").unwrap();
    let index = index.split("\n## ").next().unwrap();
    let links = index.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let links: BTreeSet<_> = links.collect();
    let pages = Document::all().into_iter().map(|document| document.path);
    let missing = pages.filter(|page| *page != "README.md" && !links.contains(page));
    report(&missing.map(|page| format!("README.md does not lead to {page}")).collect::<Vec<_>>());
}

/// A page nobody reads to its end is two pages. What is looked up, and not read, may be longer.
#[test]
fn a_page_of_a_task_is_short() {
    const LOOKED_UP: [&str; 5] = [
        "docs/configuration.md",
        "docs/dropped-packets.md",
        "docs/lvs-compatibility.md",
        "docs/metrics.md",
        "docs/performance.md",
    ];
    let pages = Document::all().into_iter().filter(|it| Path::new(it.path).starts_with("docs"));
    let lines = |it: &Document| it.prose.lines().count();
    let long = pages.filter(|it| !LOOKED_UP.contains(&it.path) && lines(it) > 200);
    report(
        &long.map(|it| format!("{}: {} lines of prose", it.path, lines(&it))).collect::<Vec<_>>(),
    );
}

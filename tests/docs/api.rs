//! The admin API's page against its description, which is made of the routes themselves
//! (`control/admin/requests/openapi.rs`): the same routes, with the same parameters.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

const PAGE: &str = "docs/admin-api.md";
const DESCRIPTION: &str = "docs/openapi.json";
/// What stands in a path for whom it is about: in the description, and for people.
const PLACES: [(&str, &str); 2] = [("{service}", "NAME"), ("{backend}", "ADDRESS:PORT")];

/// `GET /trace?count=&flow=&seconds=`, parameters in the order of the alphabet.
fn shown(method: &str, path: &str, parameters: &BTreeSet<&str>) -> String {
    let pairs: Vec<_> = parameters.iter().map(|name| format!("{name}=")).collect();
    let query = if pairs.is_empty() { String::new() } else { format!("?{}", pairs.join("&")) };
    format!("{} {path}{query}", method.to_uppercase())
}

/// The routes that the page lists.
fn listed() -> Vec<String> {
    let page = fs::read_to_string(PAGE).unwrap();
    let row = |line: &str| {
        let (method, rest) = line.strip_prefix("| `")?.split_once('`')?.0.split_once(' ')?;
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let names = query.split('&').filter_map(|pair| pair.strip_suffix('='));
        path.starts_with('/').then(|| shown(method, path, &names.collect()))
    };
    page.lines().filter_map(row).collect()
}

/// Those that there are.
fn described() -> BTreeSet<String> {
    let text = fs::read_to_string(DESCRIPTION).unwrap();
    let description: Value = serde_json::from_str(&text).unwrap();
    let mut routes = BTreeSet::new();
    for (path, methods) in description["paths"].as_object().unwrap() {
        let path = PLACES.iter().fold(path.clone(), |path, (ours, said)| path.replace(ours, said));
        for (method, route) in methods.as_object().unwrap() {
            let parameters = route["parameters"].as_array().unwrap().iter();
            let asked = parameters.filter(|it| it["in"] == "query");
            let names = asked.map(|it| it["name"].as_str().unwrap()).collect();
            routes.insert(shown(method, &path, &names));
        }
    }
    routes
}

#[test]
fn the_page_lists_every_route_with_its_parameters_once_and_no_other() {
    let rows = listed();
    let page: BTreeSet<_> = rows.iter().cloned().collect();
    assert_eq!(page.len(), rows.len(), "a route is listed twice: {rows:?}");
    assert!(page.len() > 20, "only {page:?} were found");
    assert_eq!(page, described());
}

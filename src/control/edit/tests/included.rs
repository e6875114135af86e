//! Edits of a configuration in several files: what stands in an included one is not edited here, and not lost.

use super::*;
use crate::control::config::files::File;
use crate::control::config::parse_files;

const MAIL: &str = r#"# Of another team.
[[service]]
name = "mail"
protocol = "tcp"
address = "198.51.100.10:25"
mode = "nat"

[[service.backend]]
address = "10.44.0.31:25"
"#;

/// [`FILE`], and a file with one service behind it.
fn files() -> Files {
    let included = File { path: "services/mail.toml".into(), text: MAIL.to_owned(), services: 1 };
    let alone = Files::alone(Path::new("shunt.toml"), FILE.to_owned());
    Files { included: vec![included], ..alone }
}

fn plan_of(files: &Files) -> Plan {
    parse_files(files, &Machine::with_cpus(4)).unwrap_or_else(|errors| panic!("{errors}")).plan
}

fn made(edits: &[Edit]) -> Result<Files, EditError> {
    let files = files();
    Ok(files.with_text(apply(&files, &plan_of(&files), edits)?))
}

/// Each edit there is of a service, by name and by place.
fn edits_of_mail() -> Vec<Edit> {
    let backend: SocketAddr = "10.44.0.31:25".parse().unwrap();
    let new = keys(&serde_json::json!({ "address": "10.44.0.32:25" }));
    let weight = keys(&serde_json::json!({ "weight": 0 }));
    let place = keys(&serde_json::json!({ "protocol": "tcp", "address": "198.51.100.10:25" }));
    let local: IpAddr = "10.44.0.2".parse().unwrap();
    let of = |service: Which| {
        vec![
            Edit::EditService { service: service.clone(), keys: weight.clone() },
            Edit::DeleteService { service: service.clone() },
            Edit::AddBackend { service: service.clone(), keys: new.clone() },
            Edit::EditBackend { service: service.clone(), backend, keys: weight.clone() },
            Edit::PutBackend { service: service.clone(), backend, keys: weight.clone() },
            Edit::DeleteBackend { service: service.clone(), backend },
            Edit::AddLocalAddress { service: service.clone(), address: local },
            Edit::DeleteLocalAddress { service, address: local },
        ]
    };
    let mut edits = of(Which::Name("mail".into()));
    edits.extend(of(at("tcp", "198.51.100.10:25")));
    edits.push(Edit::PutService { service: "mail".into(), keys: place });
    edits.push(Edit::DeleteServices);
    edits
}

#[test]
fn what_stands_in_an_included_file_is_not_edited_and_the_file_is_named() {
    for edit in edits_of_mail() {
        assert_eq!(
            made(std::slice::from_ref(&edit)).unwrap_err().to_string(),
            "service `mail` stands in services/mail.toml: edit it there, then `shunt reload`",
            "{edit:?}"
        );
    }
}

#[test]
fn each_edit_of_the_including_file_changes_what_it_says_whatever_is_included() {
    for (edit, expected) in each_edit() {
        let before = files();
        let after = made(std::slice::from_ref(&edit)).unwrap();
        assert_eq!(after.included, before.included, "{edit:?}");
        assert_eq!(after.text, edited(std::slice::from_ref(&edit)).unwrap(), "{edit:?}");
        let changes = diff(&plan_of(&before), &plan_of(&after)).changes;
        assert_eq!(changes.len(), 1, "{edit:?}: {changes:?}");
        assert!(changes[0].to_string().starts_with(expected), "{} {expected}", changes[0]);
    }
}

#[test]
fn what_was_added_beside_included_services_is_found_by_the_edits_after_it() {
    let service = serde_json::json!({
        "name": "ntp", "protocol": "udp", "address": "198.51.100.10:123", "mode": "dr",
    });
    let backend = serde_json::json!({ "address": "10.44.0.21:123" });
    let delete = Edit::DeleteService { service: Which::Name("web".into()) };
    let edits = [
        Edit::AddService { keys: keys(&service) },
        delete,
        Edit::AddBackend { service: at("udp", "198.51.100.10:123"), keys: keys(&backend) },
    ];
    let plan = plan_of(&made(&edits).unwrap());
    let names: Vec<_> = plan.services.iter().map(|it| (&*it.name, it.backends.len())).collect();
    assert_eq!(names, [("dns", 2), ("ntp", 1), ("mail", 1)]);
}

#[test]
fn a_service_cannot_be_added_where_an_included_one_is() {
    let service = serde_json::json!({
        "name": "second", "protocol": "tcp", "address": "198.51.100.10:25", "mode": "dr",
    });
    let error = made(&[Edit::AddService { keys: keys(&service) }]).unwrap_err();
    let expected =
        "there is a service at tcp 198.51.100.10:25 already; edit it, or delete it first";
    assert_eq!(error.to_string(), expected);
}

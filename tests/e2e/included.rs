//! A configuration in several files: each team's changes are taken by a reload, all files or none, and what is changed
//! by hand goes into the file that includes the others.

use std::fs;

use lab::network::{LOCAL, VIP};
use lab::{Balancer, programs};

use crate::harness::{Rig, web};

/// A file with one service at this port of the VIP.
fn file_of(name: &str, port: u16, backend: u8) -> String {
    format!(
        "# Another team's.\n[[service]]\nname = \"{name}\"\nprotocol = \"tcp\"\naddress = \"{VIP}:{port}\"\n\
         local_addresses = [\"{}\"]\n\n[[service.backend]]\naddress = \"{}\"\n",
        LOCAL[0],
        web(backend)
    )
}

fn answers(rig: &Rig, port: u16) -> bool {
    programs::curl(&rig.network.clients[0], &format!("http://{VIP}:{port}/")).is_ok()
}

/// Adds the second backend to the service at this port.
fn add_by_hand(balancer: &Balancer<'_>, port: u16) -> Result<String, String> {
    let (service, backend) = (format!("{VIP}:{port}"), web(2).to_string());
    let said = balancer.shunt(&["ipvsadm", "-a", "-t", &service, "-r", &backend, "-b"]);
    said.map_err(|error| error.to_string())
}

#[test]
fn a_reload_takes_what_all_files_say_or_nothing() {
    let rig = Rig::new(1, 2);
    let services = rig.network.folder().join("services");
    fs::create_dir(&services).unwrap();
    fs::write(services.join("mail.toml"), file_of("mail", 8025, 1)).unwrap();
    let mut config = rig.web_config(1, "rr", &[(1, 1)]);
    config.include = vec!["services/*.toml".into()];
    let mut balancer = rig.start(config);
    assert!(answers(&rig, 80) && answers(&rig, 8025) && !answers(&rig, 8080));

    fs::write(services.join("other.toml"), file_of("other", 8080, 2)).unwrap();
    assert!(balancer.shunt(&["reload"]).unwrap().contains("applied"));
    assert!(answers(&rig, 8080), "a file that has come is part of it");

    fs::write(services.join("other.toml"), file_of("mail", 8081, 2)).unwrap();
    let said = balancer.shunt(&["reload"]).unwrap_err().to_string();
    assert!(said.contains("services/other.toml:3:8: service name `mail` is used twice"), "{said}");
    assert!(answers(&rig, 8080) && !answers(&rig, 8081), "nothing has changed");

    fs::remove_file(services.join("other.toml")).unwrap();
    assert!(balancer.shunt(&["reload"]).unwrap().contains("applied"));
    assert!(!answers(&rig, 8080) && answers(&rig, 8025), "a file that has gone is none of it");
    balancer.stop().unwrap();
}

#[test]
fn what_is_saved_is_the_file_that_includes_and_no_other() {
    let rig = Rig::new(1, 2);
    let services = rig.network.folder().join("services");
    fs::create_dir(&services).unwrap();
    let mail = file_of("mail", 8025, 1);
    fs::write(services.join("mail.toml"), &mail).unwrap();
    let mut config = rig.web_config(1, "rr", &[(1, 1)]);
    config.include = vec!["services/*.toml".into()];
    let mut balancer = rig.start(config);

    let said = add_by_hand(&balancer, 8025).unwrap_err();
    assert!(said.contains("service `mail` stands in ") && said.contains("mail.toml"), "{said}");
    assert_eq!(balancer.shunt(&["diff"]).unwrap(), "", "nothing has changed");
    add_by_hand(&balancer, 80).unwrap();
    balancer.shunt(&["diff"]).unwrap_err();
    balancer.shunt(&["save"]).unwrap();

    assert_eq!(balancer.shunt(&["diff"]).unwrap(), "");
    assert_eq!(fs::read_to_string(services.join("mail.toml")).unwrap(), mail);
    let main = fs::read_to_string(rig.network.folder().join("shunt.toml")).unwrap();
    assert!(main.contains("services/*.toml") && main.contains(&web(2).to_string()), "{main}");
    assert!(!main.contains("mail\""), "it is not written twice: {main}");
    assert!(balancer.shunt(&["reload"]).unwrap().contains("nothing differs"));
    balancer.stop().unwrap();
}

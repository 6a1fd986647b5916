//! The README says what the code says.

mod clients_support;
mod support;

use clients_support::rows::Needs;
use nearhit::config::settings_markdown;

/// What stands between the markers of a generated part.
fn generated(readme: &str, name: &str) -> String {
    let (begin, end) = (format!("<!-- {name}: begin -->"), format!("<!-- {name}: end -->"));
    let (_, behind) = readme.split_once(&begin).expect("the begin marker");
    let (between, _) = behind.split_once(&end).expect("the end marker");
    between.trim().to_owned()
}

#[test]
fn the_settings_table_is_the_one_of_the_rows() {
    let readme = support::read("README.md");
    let rows = settings_markdown();
    assert!(
        generated(&readme, "settings") == rows.trim(),
        "copy this into README.md:\n{rows}"
    );
}

#[test]
fn the_table_of_clients_is_the_one_of_the_rows() {
    let (readme, rows) = (support::read("README.md"), clients_support::rows::markdown());
    assert!(
        generated(&readme, "clients") == rows.trim(),
        "copy this into README.md:\n{rows}"
    );
}

/// Packages of the system are what the system has.
#[test]
fn the_versions_of_clients_are_the_pinned_ones() {
    let python = support::read("tests/clients/python/requirements.txt");
    let node = support::read("tests/clients/node/package.json");
    for row in clients_support::rows::ROWS {
        let pinned = match row.needs {
            Needs::Python => python.contains(&format!("=={}\n", row.version)),
            Needs::Node => node.contains(&format!("\": \"{}\"", row.version)),
            _ => true,
        };
        assert!(pinned, "{} {}", row.name, row.version);
    }
}

#[test]
fn every_file_the_readme_links_to_exists() {
    let readme = support::read("README.md");
    let links = readme.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    for link in links.filter(|link| !link.contains("://") && !link.starts_with('#')) {
        assert!(support::root().join(link).exists(), "{link}");
    }
}

#[test]
fn every_make_target_the_readme_names_exists() {
    let (readme, makefile) = (support::read("README.md"), support::read("Makefile"));
    for rest in readme.split("`make ").skip(1).chain(readme.split("\nmake ").skip(1)) {
        let target = rest
            .split(|letter: char| !letter.is_ascii_lowercase() && letter != '-')
            .next()
            .unwrap_or_default();
        assert!(makefile.contains(&format!("\n{target}:")), "make {target}");
    }
}

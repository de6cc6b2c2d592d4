//! The store.

use std::time::Duration;

use super::Reader;
use crate::plan::{Postgres, Setting, Store};
use crate::policies::section_of;
use crate::sections::{FILE, STORE};
use crate::view::View;

impl<'a> Reader<'a, '_> {
    /// Reads `store`; the file beside the policy file if there is none.
    pub(super) fn store(&mut self, file: View<'a>) -> Store {
        let view = file.part("store", section_of(&FILE, "store"));
        let default = Store::Sqlite(self.folder.join(DEFAULT));
        if view.node_of("postgres").is_none() {
            for key in ["password", "name", "lease"] {
                if view.node_of(key).is_some() {
                    let message = format!("`{key}` is of a database, and this is a file");
                    let mend = "leave it out, or name the database with `postgres`";
                    self.problem(view.place_of(key), message, mend);
                }
            }
            return self.path(view, "sqlite").map_or(default, Store::Sqlite);
        }
        if view.node_of("sqlite").is_some() {
            let mend = "leave `sqlite` or `postgres` out";
            self.problem(view.place_of("sqlite"), "there is one store", mend);
        }
        let lease = view.duration("lease").unwrap_or_default();
        if !(SHORTEST_LEASE..=LONGEST_LEASE).contains(&lease) {
            let place = view.value_place("lease");
            let mend = "write `1s` to `1h`; `30s` bears a pause of a busy machine";
            self.problem(place, "no gateway lives by this lease", mend);
        }
        let secret = |key| view.given_part(key, section_of(&STORE, key));
        let settings = match secret("postgres") {
            Some(kept) => self.secret(kept).map(Setting::Kept),
            None => view.text("postgres").map(|text| self.settings(view, text)),
        };
        let password = secret("password").and_then(|kept| self.secret(kept));
        let Some(settings) = settings else {
            return default;
        };
        Store::Postgres(Postgres {
            settings,
            password,
            name: view.text("name").map(str::to_owned),
            lease,
        })
    }

    fn settings(&mut self, view: View<'_>, text: &str) -> Setting {
        let is_url = text.starts_with("postgres://") || text.starts_with("postgresql://");
        if !is_url && !text.contains('=') {
            self.problem(
                view.place_of("postgres"),
                "this is no way to a database",
                "write `postgres://USER@HOST/DATABASE`, or `host=HOST user=USER dbname=DATABASE`",
            );
        }
        Setting::Plain(text.to_owned())
    }
}

const DEFAULT: &str = "outlast.db";
const SHORTEST_LEASE: Duration = Duration::from_secs(1);
const LONGEST_LEASE: Duration = Duration::from_secs(3600);

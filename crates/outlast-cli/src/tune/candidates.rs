//! Candidates: a policy file with other values, in the scenario.

use std::collections::BTreeSet;

use outlast_config::edit::File;
use outlast_config::scenario::Draft;
use outlast_sim::scenario::{Failure, Trial};
use outlast_sim::tune::{Score, hypercube};

use super::setting::Setting;

/// A policy file with other values.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    /// By the settings; `None` is what is there.
    pub(super) values: Vec<Option<String>>,
    pub(super) text: String,
    trial: Trial,
}

/// Where candidates come from.
pub(super) struct Source<'a> {
    pub(super) draft: &'a Draft,
    pub(super) file: &'a File,
    pub(super) settings: &'a [Setting],
}

/// All that are tried.
pub(super) struct Candidates {
    /// The first one is the file as it is.
    pub(super) all: Vec<Candidate>,
    /// So many points were no file that can be used.
    pub(super) refused: u32,
    /// So many had the values of another one.
    pub(super) alike: u32,
    /// Why the first one that was refused was.
    pub(super) why: Option<String>,
}

impl Source<'_> {
    /// The file with these values; what is `None` stays as it is.
    ///
    /// # Errors
    /// Why that is no file that can be used.
    pub(super) fn candidate(&self, values: Vec<Option<String>>) -> Result<Candidate, String> {
        let mut file = self.file.clone();
        for (setting, value) in self.settings.iter().zip(&values) {
            if let Some(value) = value {
                let set = file.set(&setting.path(), value);
                set.map_err(|error| error.to_string())?;
            }
        }
        let plan = file
            .check()
            .map_err(|problems| problems.to_string())?
            .into_plan();
        let scenario = self
            .draft
            .bind(&plan)
            .map_err(|problems| problems.to_string())?;
        Ok(Candidate {
            values,
            text: file.text().to_owned(),
            trial: Trial::new(scenario, &plan),
        })
    }

    /// What there is, and as many points of a hypercube over all settings.
    ///
    /// # Errors
    /// If what there is does not fit the scenario.
    pub(super) fn candidates(&self, points: usize, seed: u64) -> Result<Candidates, String> {
        let now = self.candidate(vec![None; self.settings.len()])?;
        let mut seen = BTreeSet::from([now.values.clone()]);
        let mut candidates = Candidates {
            all: vec![now],
            refused: 0,
            alike: 0,
            why: None,
        };
        for point in hypercube(points, self.settings.len(), seed) {
            let pairs = self.settings.iter().zip(point);
            let values: Vec<_> = pairs
                .map(|(setting, place)| setting.changed(setting.at(place)))
                .collect();
            if !seen.insert(values.clone()) {
                candidates.alike += 1;
                continue;
            }
            match self.candidate(values) {
                Ok(candidate) => candidates.all.push(candidate),
                Err(why) => {
                    candidates.refused += 1;
                    candidates.why.get_or_insert(why);
                }
            }
        }
        Ok(candidates)
    }
}

impl Candidate {
    /// A run with a seed. One that goes beyond the scenario's bounds is lost.
    ///
    /// # Errors
    /// If the simulator fails.
    pub(super) fn run(&self, seed: u64) -> Result<Score, Failure> {
        let promises = &self.trial.scenario().promises;
        match self.trial.run(seed) {
            Ok((run, _)) => Ok(Score::of(&run, promises)),
            Err(Failure::Bound { .. }) => Ok(Score::lost(promises.len())),
            Err(failure) => Err(failure),
        }
    }
}

//! The providers of a job and the groups they have found.
//!
//! A provider is told from others by a number that is never used again, so that what a stopped one still has on its
//! way is known and dropped. A provider whose section a reload has changed is *retired*: its groups stay until the one
//! that takes its place has found its own, or for as long as a change waits at most.

use super::room::Size;
use super::{Context, Discover, ProviderStatus, Report, Room, SourceConfig, TargetGroup, Update, fixed_groups};
use crate::config::ScrapeConfig;
use std::collections::{BTreeMap, BTreeSet};
use tokio_util::sync::CancellationToken;

/// The number of `static_configs`.
const FIXED: usize = 0;

/// All that discovery knows of a job.
#[derive(Debug)]
pub(crate) struct Found {
    /// What the groups of all jobs may take; those of retired providers are about to go and do not count.
    room: Room,
    groups: BTreeMap<(usize, String), TargetGroup>,
    providers: BTreeMap<usize, Provider>,
    retired: BTreeSet<usize>,
    /// Providers that have sent nothing yet.
    awaited: BTreeSet<usize>,
    last_number: usize,
}

#[derive(Debug)]
struct Provider {
    source: SourceConfig,
    report: Report,
    stop: CancellationToken,
    /// Whether something that it found was left out for want of room.
    left_out: bool,
}

/// A provider to be run.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) number: usize,
    pub(crate) provider: Box<dyn Discover>,
    pub(crate) stop: CancellationToken,
}

/// What an update changes, the least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Taken {
    /// It came from a provider that is no more.
    Nothing,
    /// One more.
    Another,
    /// The first of its provider.
    First,
}

impl Found {
    /// Nothing yet.
    pub(crate) fn new(room: &Room) -> Self {
        Self {
            room: room.clone(),
            groups: BTreeMap::new(),
            providers: BTreeMap::new(),
            retired: BTreeSet::new(),
            awaited: BTreeSet::new(),
            last_number: 0,
        }
    }

    /// Makes the providers those of a job: what stays goes on, what is new is to be run. `end` stops them all.
    pub(crate) fn configure(&mut self, job: &ScrapeConfig, context: &Context, end: &CancellationToken) -> Vec<Started> {
        self.groups.retain(|(number, _), _| *number != FIXED);
        for group in fixed_groups(&job.static_configs) {
            self.groups.insert((FIXED, group.source.clone()), group);
        }
        let mut before = std::mem::take(&mut self.providers);
        let mut started = Vec::new();
        for source in SourceConfig::of(job) {
            let same = before.iter().find(|(_, provider)| provider.source == source);
            if let Some((number, provider)) = same.map(|(number, _)| *number).and_then(|n| before.remove_entry(&n)) {
                self.providers.insert(number, provider);
            } else {
                let report = Report::new(&job.job_name, &source, context);
                started.extend(self.start(source, report, context, end));
            }
        }
        for (number, provider) in before {
            self.retire(number, &provider);
        }
        if self.awaited.is_empty() {
            self.drop_retired();
        }
        started
    }

    /// Stops a provider that is none of this job's any more. Its groups stay for a while.
    fn retire(&mut self, number: usize, provider: &Provider) {
        provider.stop.cancel();
        self.awaited.remove(&number);
        self.retired.insert(number);
        self.leave_room(number);
    }

    /// Gives the room of a provider's groups back.
    fn leave_room(&self, number: usize) {
        let groups = self.groups.range((number, String::new())..(number + 1, String::new()));
        groups.for_each(|(_, group)| self.room.give_back(Size::of(group)));
    }

    /// Whether something was left out for want of room.
    pub(crate) fn has_left_out(&self) -> bool {
        self.providers.values().any(|provider| provider.left_out)
    }

    /// Begins the providers anew of which something was left out: each tells all that it finds.
    pub(crate) fn find_left_out(&mut self, context: &Context, end: &CancellationToken) -> Vec<Started> {
        let numbers = self.providers.iter().filter(|(_, provider)| provider.left_out);
        let numbers: Vec<usize> = numbers.map(|(number, _)| *number).collect();
        let mut started = Vec::new();
        for number in numbers {
            if let Some(provider) = self.providers.remove(&number) {
                self.retire(number, &provider);
                started.extend(self.start(provider.source, provider.report, context, end));
            }
        }
        started
    }

    fn start(
        &mut self,
        source: SourceConfig,
        report: Report,
        context: &Context,
        end: &CancellationToken,
    ) -> Option<Started> {
        self.last_number += 1;
        let number = self.last_number;
        let stop = end.child_token();
        let provider = source.provider(context, report.clone());
        let held = Provider {
            source,
            report,
            stop: stop.clone(),
            left_out: false,
        };
        let provider = match provider {
            Ok(provider) => {
                self.awaited.insert(number);
                Some(provider)
            }
            // The job's other targets are scraped all the same.
            Err(problem) => {
                held.report.cannot_start(&problem);
                None
            }
        };
        self.providers.insert(number, held);
        Some(Started {
            number,
            provider: provider?,
            stop,
        })
    }

    /// Takes what a provider has found.
    pub(crate) fn take(&mut self, update: Update) -> Taken {
        let number = update.provider;
        let Some(provider) = self.providers.get_mut(&number) else {
            return Taken::Nothing;
        };
        for group in update.groups {
            let key = (number, group.source.clone());
            let old = self.groups.get(&key).map(Size::of).unwrap_or_default();
            if group.targets.is_empty() {
                self.groups.remove(&key);
                self.room.give_back(old);
                continue;
            }
            match self.room.exchange(old, Size::of(&group)) {
                Ok(()) => drop(self.groups.insert(key, group)),
                Err(full) => {
                    provider.left_out = true;
                    provider.report.left_out(&full);
                }
            }
        }
        if !self.awaited.remove(&number) {
            return Taken::Another;
        }
        // The first update is all that there is.
        if !provider.left_out {
            provider.report.all_taken();
        }
        Taken::First
    }

    /// Whether a provider has yet to send something.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.awaited.is_empty()
    }

    /// Whether there are groups of retired providers.
    pub(crate) fn has_retired(&self) -> bool {
        !self.retired.is_empty()
    }

    /// Forgets the groups of providers that are no more.
    pub(crate) fn drop_retired(&mut self) {
        let retired = std::mem::take(&mut self.retired);
        self.groups.retain(|(number, _), _| !retired.contains(number));
    }

    /// Stops every provider and forgets all groups.
    pub(crate) fn clear(&mut self) {
        for (number, provider) in &self.providers {
            provider.stop.cancel();
            self.leave_room(*number);
        }
        *self = Self {
            last_number: self.last_number,
            ..Self::new(&self.room)
        };
    }

    /// The groups, in order of provider and source.
    pub(crate) fn groups(&self) -> impl Iterator<Item = &TargetGroup> {
        self.groups.values()
    }

    /// How many targets are in them.
    pub(crate) fn targets(&self) -> usize {
        self.groups().map(|group| group.targets.len()).sum()
    }

    /// Whether each provider has sent something or told why it cannot.
    pub(crate) fn all_heard(&self) -> bool {
        let troubled = |number: &usize| {
            let provider = self.providers.get(number);
            provider.is_some_and(|provider| provider.report.problem().is_some())
        };
        self.awaited.iter().all(troubled)
    }

    /// What is wrong with each provider; `silent` of those that have sent nothing and told nothing.
    pub(crate) fn problems(&self, silent: &str) -> Vec<String> {
        let problems = self.providers.iter().filter_map(|(number, provider)| {
            let unheard = || self.awaited.contains(number).then(|| silent.to_owned());
            let problem = provider.report.problem().or_else(unheard)?;
            Some(format!("{}: {problem}", provider.report.name()))
        });
        problems.collect()
    }

    /// How the providers fare.
    pub(crate) fn status(&self) -> Vec<ProviderStatus> {
        let of = |number: usize| {
            let groups = self.groups.iter().filter(move |((of, _), _)| *of == number);
            groups.fold((0, 0), |(groups, targets), (_, group)| {
                (groups + 1, targets + group.targets.len())
            })
        };
        self.providers
            .iter()
            .map(|(number, provider)| {
                let (groups, targets) = of(*number);
                provider.report.status(groups, targets)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{GlobalConfig, finish};
    use crate::discovery::source::tests::context;
    use tidegauge_model::Labels;

    fn job(keys: &str) -> ScrapeConfig {
        let yaml = format!("{{job_name: j, {keys}}}");
        let job = serde_yaml_ng::from_str(&yaml).unwrap();
        finish(vec![Some(job)], &GlobalConfig::absent()).unwrap().remove(0)
    }

    fn update(provider: usize, groups: &[(&str, usize)]) -> Update {
        let target = Labels::from_sorted([("__address__", "a:1")]);
        let group = |(source, count): &(&str, usize)| TargetGroup {
            targets: vec![target.clone(); *count],
            ..TargetGroup::empty((*source).to_owned())
        };
        Update {
            provider,
            groups: groups.iter().map(group).collect(),
        }
    }

    #[test]
    fn providers_whose_section_stays_go_on() {
        let (context, end) = (context(), CancellationToken::new());
        let mut found = Found::new(&context.room);
        let both = job("file_sd_configs: [{files: [a.json]}, {files: [b.json]}], static_configs: [{targets: [s:1]}]");
        let started = found.configure(&both, &context, &end);
        let numbers: Vec<usize> = started.iter().map(|s| s.number).collect();
        assert_eq!((numbers.as_slice(), found.targets()), ([1, 2].as_slice(), 1));
        assert_eq!(found.take(update(1, &[("x", 2)])), Taken::First);
        assert_eq!(found.take(update(2, &[("x", 3)])), Taken::First);
        assert_eq!(found.take(update(2, &[("y", 1), ("x", 0)])), Taken::Another);
        assert_eq!(found.targets(), 4);

        let other = job("file_sd_configs: [{files: [c.json]}, {files: [a.json]}]");
        let again = found.configure(&other, &context, &end);
        assert_eq!(again.iter().map(|s| s.number).collect::<Vec<_>>(), [3]);
        assert!(started[1].stop.is_cancelled() && !started[0].stop.is_cancelled());
        // What the second found stays until the third is heard.
        assert!(found.has_retired() && found.targets() == 3);
        assert_eq!(found.take(update(2, &[("z", 5)])), Taken::Nothing);
        assert_eq!(found.take(update(3, &[])), Taken::First);
        found.drop_retired();
        assert_eq!(found.targets(), 2);
        assert_eq!(
            found
                .status()
                .iter()
                .map(|s| (s.place.as_str(), s.targets))
                .collect::<Vec<_>>(),
            [("a.json", 2), ("c.json", 0)]
        );

        assert!(found.configure(&job("static_configs: []"), &context, &end).is_empty());
        assert!(found.targets() == 0 && !found.has_retired());
        assert!(started[0].stop.is_cancelled() && again[0].stop.is_cancelled());
    }

    #[test]
    fn a_section_that_cannot_be_obeyed_is_told_and_leaves_the_others_alone() {
        let (context, end) = (context(), CancellationToken::new());
        let mut found = Found::new(&context.room);
        let job = job(
            "http_sd_configs: [{url: 'http://h/', proxy_url: 'http://[bad'}], file_sd_configs: [{files: [a.json]}]",
        );
        let started = found.configure(&job, &context, &end);
        assert_eq!(started.len(), 1);
        let broken = &found.status()[1];
        assert!(
            broken.mechanism == "http" && broken.last_error.contains("proxy_url"),
            "{broken:?}"
        );
        assert_eq!(context.metrics.sd.failed_configs.get(), 1);
        found.clear();
        assert_eq!(context.metrics.sd.failed_configs.get(), 0);
    }
    #[test]
    fn what_has_no_room_is_left_out_and_found_when_there_is() {
        let (mut context, end) = (context(), CancellationToken::new());
        context.room = Room::new(10, 1 << 20, &context.metrics);
        let (mut one, mut other) = (Found::new(&context.room), Found::new(&context.room));
        let job = job("file_sd_configs: [{files: [a.json]}], static_configs: [{targets: [s:1, s:2]}]");
        for found in [&mut one, &mut other] {
            assert_eq!(found.configure(&job, &context, &end).len(), 1);
        }
        let metrics = &context.metrics;
        one.take(update(1, &[("x", 6), ("y", 2)]));
        other.take(update(1, &[("x", 2)]));
        assert!(!one.has_left_out() && metrics.sd_targets.get() == 10);
        // A group that grows stays as it was; one that shrinks makes room.
        other.take(update(1, &[("x", 3), ("y", 1)]));
        assert!(other.has_left_out() && !context.room.is_airy());
        assert_eq!((other.targets(), metrics.sd_refused.get()), (4, 2));
        let told = &other.status()[0].last_error;
        assert_eq!(
            told,
            "not all targets are taken: those of all jobs together would be more than 10 targets (raise --discovery.max-targets)"
        );
        assert_eq!(metrics.sd_unhealthy.get(), 1);
        one.take(update(1, &[("x", 0)]));
        assert!(context.room.is_airy());

        let again = other.find_left_out(&context, &end);
        assert_eq!(again.iter().map(|s| s.number).collect::<Vec<_>>(), [2]);
        assert_eq!((metrics.sd_targets.get(), metrics.sd_unhealthy.get()), (2, 1));
        assert_eq!(other.targets(), 4, "what was known stays until the new one is heard");
        assert_eq!(other.take(update(2, &[("x", 3), ("y", 1)])), Taken::First);
        other.drop_retired();
        assert!(!other.has_left_out() && other.targets() == 6);
        assert_eq!(
            (metrics.sd_unhealthy.get(), other.status()[0].last_error.as_str()),
            (0, "")
        );

        one.clear();
        assert_eq!(metrics.sd_targets.get(), 4);
        other.clear();
        assert_eq!((metrics.sd_targets.get(), metrics.sd_bytes.get()), (0, 0));
    }

    #[test]
    fn the_bytes_of_groups_are_bounded_too() {
        let (mut context, end) = (context(), CancellationToken::new());
        context.room = Room::new(1000, 1000, &context.metrics);
        let mut found = Found::new(&context.room);
        found.configure(&job("file_sd_configs: [{files: [a.json]}]"), &context, &end);
        let name = "n".repeat(800);
        found.take(update(1, &[(name.as_str(), 1), ("small", 1)]));
        assert_eq!(found.targets(), 1);
        let told = &found.status()[0].last_error;
        assert!(
            told.contains("more than 1000 bytes (raise --discovery.max-size)"),
            "{told}"
        );
        assert_eq!(
            context.metrics.sd_targets.get(),
            1,
            "nothing is taken of what is refused"
        );
    }
}

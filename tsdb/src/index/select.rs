//! Which series meet all matchers.
//!
//! A matcher that asks for a value (it does not accept the empty string) *includes* series; one that accepts it, and
//! so series without the label, *excludes* those whose value it refuses. Both come down to the pairs that the positive
//! form of the matcher hits, and the postings of the name:
//!
//! ```text
//!   a="x"  a=~"x|y"      include  hits
//!   a!=""  a=~".+"       include  name                     (all values hit)
//!   a!~"|x"              include  name, exclude hits
//!   a!="x" a!~"x|y"      exclude  hits
//!   a=""   a=~"|x"       exclude  name but hits
//! ```

use super::pairs::{NameEntry, Pairs, Scan};
use super::postings::{List, Postings, intersect, subtract, unite};
use crate::codec::Malformed;
use tidegauge_model::Matcher;

/// Pairs and their postings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Index<'b> {
    pub(crate) pairs: Pairs<'b>,
    pub(crate) postings: Postings<'b>,
    pub(crate) series: u32,
}

/// What the matchers together ask for.
#[derive(Debug, Default)]
struct Plan<'b> {
    /// Each a union of lists that a series must be in one of.
    include: Vec<Vec<List<'b>>>,
    /// Lists that a series must not be in.
    exclude: Vec<List<'b>>,
    /// How many names they are of.
    exclude_names: usize,
    /// Lists that a series must not be in, unless it is in one of those behind.
    exclude_but: Vec<(List<'b>, Vec<List<'b>>)>,
}

impl<'b> Plan<'b> {
    /// Excludes the series of lists, all of them of one name.
    fn exclude(&mut self, lists: Vec<List<'b>>) {
        self.exclude.extend(lists);
        self.exclude_names += 1;
    }
}

impl<'b> Index<'b> {
    /// The series that meet all matchers, rising.
    pub(crate) fn select(&self, matchers: &[Matcher]) -> Result<Vec<u32>, Malformed> {
        let mut plan = Plan::default();
        for matcher in matchers {
            if !self.add(matcher, &mut plan)? {
                return Ok(Vec::new());
            }
        }
        self.run(plan)
    }

    /// The series that have a label.
    pub(crate) fn with_name(&self, name: &NameEntry<'_>) -> Result<List<'b>, Malformed> {
        self.postings.list(self.pairs.pair_count().saturating_add(name.no))
    }

    /// Adds a matcher to the plan; `false` if nothing can meet it.
    fn add(&self, matcher: &Matcher, plan: &mut Plan<'b>) -> Result<bool, Malformed> {
        let Some(name) = self.pairs.find_name(matcher.name())? else {
            return Ok(matcher.matches_empty());
        };
        let hits = self.hits(matcher, &name)?;
        let all = hits.len() == name.pairs.len();
        let lists = |pairs: Vec<u32>| {
            pairs
                .into_iter()
                .map(|p| self.postings.list(p))
                .collect::<Result<Vec<_>, _>>()
        };
        match (matcher.matches_empty(), matcher.is_negative()) {
            (false, false) if hits.is_empty() => return Ok(false),
            (false, false) if all => plan.include.push(vec![self.with_name(&name)?]),
            (false, false) => plan.include.push(lists(hits)?),
            (false, true) if all => return Ok(false),
            (false, true) => {
                plan.include.push(vec![self.with_name(&name)?]);
                plan.exclude(lists(hits)?);
            }
            (true, true) if all => plan.exclude(vec![self.with_name(&name)?]),
            (true, true) => plan.exclude(lists(hits)?),
            (true, false) if all => {}
            (true, false) => plan.exclude_but.push((self.with_name(&name)?, lists(hits)?)),
        }
        Ok(true)
    }

    /// The pairs of a name whose values the positive form of the matcher accepts.
    fn hits(&self, matcher: &Matcher, name: &NameEntry<'b>) -> Result<Vec<u32>, Malformed> {
        let mut hits = Vec::new();
        if let Some(literals) = matcher.literals() {
            for value in literals.into_iter().filter(|v| !v.is_empty()) {
                hits.extend(self.pairs.find(name, value)?);
            }
            return Ok(hits);
        }
        let prefix = matcher.prefix();
        self.pairs.scan(name, prefix, |pair, value| {
            if !value.starts_with(prefix) {
                return Scan::Stop;
            }
            if matcher.matches(value) != matcher.is_negative() {
                hits.push(pair);
            }
            Scan::Next
        })?;
        Ok(hits)
    }

    fn run(&self, mut plan: Plan<'b>) -> Result<Vec<u32>, Malformed> {
        // The shortest first: what is left only gets shorter.
        plan.include
            .sort_by_key(|lists| lists.iter().map(List::len).sum::<usize>());
        let mut include = plan.include.into_iter();
        let mut found = match include.next() {
            Some(lists) => self.union(lists, 1)?,
            None => (0..self.series).collect(),
        };
        for lists in include {
            if found.is_empty() {
                return Ok(found);
            }
            found = self.meet(lists, &found)?;
        }
        if plan.exclude.len() > 4 {
            let out = self.union(plan.exclude, plan.exclude_names)?;
            found = subtract(&found, &out);
        } else {
            for list in plan.exclude {
                let out = list.intersect(&found)?;
                found = subtract(&found, &out);
            }
        }
        for (name, but) in plan.exclude_but {
            let kept = self.meet(but, &found)?;
            let out = name.intersect(&found)?;
            found = unite(&subtract(&found, &out), &kept);
        }
        Ok(found)
    }

    /// Those of `found` that are in one of the lists.
    fn meet(&self, lists: Vec<List<'b>>, found: &[u32]) -> Result<Vec<u32>, Malformed> {
        if lists.len() <= 4 {
            let mut out = Vec::new();
            for list in lists {
                out.extend(list.intersect(found)?);
            }
            out.sort_unstable();
            return Ok(out);
        }
        Ok(intersect(found, &self.union(lists, 1)?))
    }

    /// All series of the lists, rising; a series of two lists, which are of two names then, occurs twice.
    fn union(&self, lists: Vec<List<'b>>, names: usize) -> Result<Vec<u32>, Malformed> {
        let several = lists.len() > 1;
        let mut out = Vec::new();
        // A series has one value of a name.
        let most = (self.series as usize).saturating_mul(names);
        if lists.iter().map(List::len).fold(0, usize::saturating_add) > most {
            return Err(Malformed::new(0, "postings of a name overlap"));
        }
        for list in lists {
            list.decode(&mut out)?;
        }
        if several {
            out.sort_unstable();
        }
        Ok(out)
    }
}

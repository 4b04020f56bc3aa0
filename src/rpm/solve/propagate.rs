//! What follows from decisions, and what is learnt where they contradict each other.
//!
//! Each rule of two literals or more is watched by two of them: as long as neither is false, nothing follows from it.

use super::rules::{Literal, Origin, Rule};
use super::search::{Cause, Search};
use crate::rpm::pool::PackageId;

impl Search<'_> {
    pub fn decide(&mut self, literal: Literal, level: i32, cause: Cause) {
        self.decided[literal.package()] = if literal.is_yes() { level } else { -level };
        self.queue.push(literal);
        self.causes.push(cause);
    }

    /// Decides what rules demand; gives a rule that cannot be fulfilled.
    pub fn propagate(&mut self, level: usize) -> Option<usize> {
        while self.propagated < self.queue.len() {
            let gone = self.queue[self.propagated].negated();
            self.propagated += 1;
            let mut previous: Option<(usize, usize)> = None;
            let mut next = self.watches[self.place(gone)];
            while let Some(at) = next {
                let side = usize::from(self.rules[at].watched[0] != Some(gone));
                next = self.rules[at].next[side];
                let Some(other) = self.rules[at].watched[1 - side] else { continue };
                if self.is_true(other) {
                    previous = Some((at, side));
                    continue;
                }
                let rule = &self.rules[at];
                let free = match rule.literals.len() {
                    2 => None,
                    _ => rule.literals.iter().copied().find(|literal| *literal != other && !self.is_false(*literal)),
                };
                if let Some(free) = free {
                    match previous {
                        Some((before, side)) => self.rules[before].next[side] = next,
                        None => {
                            let place = self.place(gone);
                            self.watches[place] = next;
                        }
                    }
                    let place = self.place(free);
                    self.rules[at].watched[side] = Some(free);
                    self.rules[at].next[side] = self.watches[place];
                    self.watches[place] = Some(at);
                    continue;
                }
                previous = Some((at, side));
                if self.is_false(other) {
                    return Some(at);
                }
                self.decide(other, level as i32, Cause::Rule(at));
            }
        }
        None
    }

    fn place(&self, literal: Literal) -> usize {
        (literal.0 + self.decided.len() as i32) as usize
    }

    pub fn watch(&mut self, rule: usize) {
        if self.rules[rule].is_assertion() {
            return;
        }
        for side in 0..2 {
            if let Some(literal) = self.rules[rule].watched[side] {
                let place = self.place(literal);
                self.rules[rule].next[side] = self.watches[place];
                self.watches[place] = Some(rule);
            }
        }
    }

    /// Makes a rule that forbids what led to the conflict, goes back to where it would have mattered, and decides it.
    pub fn learn(&mut self, level: usize, conflict: usize) -> usize {
        let mut seen = vec![false; self.decided.len()];
        let (mut kept, mut reasons) = (Vec::new(), Vec::new());
        let (mut back, mut here) = (1, 0);
        let mut at = self.queue.len();
        let mut rule = conflict;
        let turned = loop {
            reasons.push(rule);
            for literal in &self.rules[rule].literals {
                let package = literal.package();
                if self.is_true(*literal) || std::mem::replace(&mut seen[package], true) {
                    continue;
                }
                match self.decided[package].unsigned_abs() as usize {
                    1 => {}
                    of if of == level => here += 1,
                    of => {
                        kept.push(*literal);
                        back = back.max(of);
                    }
                }
            }
            // Invariant: a conflict above the first level has a decision of that level; those of level 1 stand before it.
            let decision = loop {
                at -= 1;
                if seen[self.queue[at].package()] {
                    break self.queue[at];
                }
            };
            here -= 1;
            if here == 0 {
                break decision.negated();
            }
            match self.causes[at] {
                Cause::Rule(cause) => rule = cause,
                Cause::Choice(_) => unreachable!("a level has one choice, which is met last"),
            }
        };
        self.add_certain_reasons(&seen, &mut reasons);
        self.revert(back);
        self.add_learnt(turned, kept, reasons, back);
        back
    }

    /// Rules behind what was certain from the beginning: they are part of why the learnt rule holds.
    fn add_certain_reasons(&self, seen: &[bool], reasons: &mut Vec<usize>) {
        let is_certain = |package: PackageId| self.decided[package].unsigned_abs() == 1;
        let mut wanted: Vec<bool> = seen.iter().enumerate().map(|(at, seen)| *seen && is_certain(at)).collect();
        for (literal, cause) in self.queue.iter().zip(&self.causes).rev() {
            if let Cause::Rule(rule) = cause
                && wanted[literal.package()]
            {
                reasons.push(*rule);
                let behind = self.rules[*rule].literals.iter().map(|literal| literal.package());
                behind.filter(|package| is_certain(*package)).for_each(|package| wanted[package] = true);
            }
        }
    }

    fn add_learnt(&mut self, turned: Literal, kept: Vec<Literal>, reasons: Vec<usize>, level: usize) {
        let mut literals = vec![turned];
        literals.extend(kept);
        let place = self.rules.len();
        let mut rule = Rule::new(literals, Origin::Learnt(self.learnt_reasons.len()));
        self.learnt_reasons.push(reasons);
        // The second watch is the literal that would be undecided first.
        let mut highest = 0;
        for literal in &rule.literals[1..] {
            let of = self.decided[literal.package()].unsigned_abs();
            if of > highest {
                highest = of;
                rule.watched[1] = Some(*literal);
            }
        }
        self.rules.push(rule);
        self.watch(place);
        self.decide(turned, level as i32, Cause::Rule(place));
    }

    /// Takes back all decisions above a level.
    pub fn revert(&mut self, level: usize) {
        while let Some(last) = self.queue.last() {
            let package = last.package();
            if self.decided[package].unsigned_abs() as usize <= level {
                break;
            }
            self.decided[package] = 0;
            self.queue.pop();
            self.causes.pop();
        }
        self.propagated = self.propagated.min(self.queue.len());
        while self.branches.last().is_some_and(|branch| branch.level >= level) {
            self.branches.pop();
        }
        self.preferences.forget(self.queue.len());
        self.steps.truncate(level + 1);
    }
}

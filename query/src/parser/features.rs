//! What of the language is switched on.

/// The parts of PromQL that stand behind `--enable-feature`. All are off by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Features {
    /// `promql-experimental-functions`: functions and aggregations whose form may still change.
    pub experimental_functions: bool,
    /// `promql-duration-expr`: arithmetic in ranges, steps and offsets.
    pub duration_expressions: bool,
    /// `promql-extended-range-selectors`: `anchored` and `smoothed`.
    pub extended_range_selectors: bool,
    /// `promql-binop-fill-modifiers`: `fill`, `fill_left` and `fill_right`.
    pub fill_modifiers: bool,
    /// `promql-delayed-name-removal`: metric names are dropped at the end. For the engine.
    pub delayed_name_removal: bool,
    /// `type-and-unit-labels`: `__type__` and `__unit__` are labels. For the engine.
    pub type_and_unit_labels: bool,
    /// `promql-per-step-stats`: `stats=all` shows samples by step. For whoever shows statistics.
    pub per_step_stats: bool,
}

impl Features {
    /// Everything on.
    pub const ALL: Self = Self {
        experimental_functions: true,
        duration_expressions: true,
        extended_range_selectors: true,
        fill_modifiers: true,
        delayed_name_removal: true,
        type_and_unit_labels: true,
        per_step_stats: true,
    };

    /// Switches on what upstream's flag name says; false if no part of PromQL is called so.
    pub fn enable(&mut self, flag: &str) -> bool {
        let feature = match flag {
            "promql-experimental-functions" => &mut self.experimental_functions,
            "promql-duration-expr" => &mut self.duration_expressions,
            "promql-extended-range-selectors" => &mut self.extended_range_selectors,
            "promql-binop-fill-modifiers" => &mut self.fill_modifiers,
            "promql-delayed-name-removal" => &mut self.delayed_name_removal,
            "type-and-unit-labels" => &mut self.type_and_unit_labels,
            "promql-per-step-stats" => &mut self.per_step_stats,
            _ => return false,
        };
        *feature = true;
        true
    }
}

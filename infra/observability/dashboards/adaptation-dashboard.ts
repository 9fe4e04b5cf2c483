import { RowBuilder, type DashboardBuilder } from '@grafana/grafana-foundation-sdk/dashboard'
import { dashboard, labelVariable, series } from './panels.ts'

const MODEL = 'model=~"$model"'
const DOMAIN = `${MODEL}, domain=~"$domain"`
/** The chosen domains, and what the gate judges beside them, such as `(all)` and `(general)`. */
const HOLDOUT = `${MODEL}, domain=~"$domain|[(].+"`

/** The dashboard of pruning: what it costs by domain, what is adapting, and whether nodes compute what they should. */
export function adaptationDashboard(): DashboardBuilder {
  return dashboard(
    'copal-adaptation',
    'copal: drift and updates',
    'What pruning costs, and what is done about it.',
  )
    .withVariable(labelVariable('model', 'copal_model_active_version'))
    .withVariable(labelVariable('domain', 'copal_drift_requests_total'))
    .withRow(new RowBuilder('Drift'))
    .withPanel(
      series({
        title: 'What pruning costs',
        description:
          'Loss of sampled text under the mask minus under dense weights, nats a token, over an hour.',
        unit: 'short',
        span: 12,
        queries: [
          {
            expr: `copal:drift_gap_nats:mean1h{${DOMAIN}}`,
            legend: '{{domain}} m{{mask_version}}',
          },
        ],
      }),
    )
    .withPanel(
      series({
        title: 'What the traffic is like',
        description:
          'Loss of sampled text under dense weights: it moves with the traffic, not with the mask.',
        unit: 'short',
        span: 12,
        queries: [{ expr: `copal:drift_dense_nats:mean1h{${DOMAIN}}`, legend: '{{domain}}' }],
      }),
    )
    .withPanel(
      series({
        title: 'Detectors',
        description: 'Test statistic over its threshold: a detector alarms above 1.',
        unit: 'short',
        queries: [
          {
            expr: `max by (domain, signal, detector) (copal_detector_statistic{${DOMAIN}} / copal_detector_threshold{${DOMAIN}})`,
            legend: '{{domain}} {{signal}} {{detector}}',
          },
        ],
      }),
    )
    .withPanel(
      series({
        title: 'Alerts that hold',
        description: 'See `npx copal alerts`.',
        unit: 'short',
        queries: [{ expr: `sum by (kind) (copal_alerts{${MODEL}})`, legend: '{{kind}}' }],
      }),
    )
    .withPanel(
      series({
        title: 'Scoring',
        description: 'Whether requests were scored for drift, and why not.',
        unit: 'reqps',
        queries: [
          {
            expr: `sum by (outcome) (rate(copal_scoring_outcomes_total{${MODEL}}[$__rate_interval]))`,
            legend: '{{outcome}}',
          },
          {
            expr: `max(copal:scoring_missed:ratio_rate15m{${MODEL}})`,
            legend: 'share not scored for want of room',
          },
        ],
      }),
    )
    .withPanel(
      series({
        title: 'Scored requests by domain',
        description: 'The requests behind the gap.',
        unit: 'reqps',
        queries: [
          {
            expr: `sum by (domain) (rate(copal_drift_requests_total{${DOMAIN}}[$__rate_interval]))`,
            legend: '{{domain}}',
          },
        ],
      }),
    )
    .withPanel(
      series({
        title: 'Loss on the probe texts',
        description:
          'Nodes with the same mask should agree; a line that leaves the others is a damaged node.',
        unit: 'short',
        queries: [
          {
            expr: `copal_probe_nll_nats{${MODEL}}`,
            legend: '{{node}} m{{mask_version}}',
          },
        ],
      }),
    )
    .withPanel(
      series({
        title: 'Nodes that agree on the probe texts',
        description: '1 while a node agrees with the others.',
        unit: 'short',
        queries: [{ expr: `min by (node) (copal_probe_matches{${MODEL}})`, legend: '{{node}}' }],
      }),
    )
    .withRow(new RowBuilder('Updates'))
    .withPanel(
      series({
        title: 'Active mask',
        description: 'The mask that nodes should serve; 0 is dense.',
        unit: 'short',
        queries: [{ expr: `max by (model) (copal_model_active_version{${MODEL}})`, legend: '{{model}}' }],
      }),
    )
    .withPanel(
      series({
        title: 'Running update',
        description: 'Time since it started, by its state, and the progress of its jobs.',
        unit: 's',
        queries: [{ expr: `max by (state) (copal_update_age_seconds{${MODEL}})`, legend: '{{state}}' }],
      }),
    )
    .withPanel(
      series({
        title: 'Progress of its jobs',
        description: 'Calibration and evaluation, mean over the nodes.',
        unit: 'percentunit',
        queries: [{ expr: `max by (kind) (copal_update_progress_ratio{${MODEL}})`, legend: '{{kind}}' }],
      }),
    )
    .withPanel(
      series({
        title: 'Canary and watch',
        description: 'Confidence sequence of the loss by the mask that is tested, nats a prompt token.',
        unit: 'short',
        queries: [
          {
            expr: `max by (trial, bound) (copal_trial_gap_nats{${MODEL}})`,
            legend: '{{trial}} {{bound}}',
          },
        ],
      }),
    )
    .withPanel(
      series({
        title: 'Gate',
        description:
          'Perplexity of the newest candidate over that of its parent, of the best mask and of dense. The weighted figure over all domains decides.',
        unit: 'short',
        queries: [
          {
            expr: `max by (domain, figure, bound) (copal_gate_perplexity_ratio{${HOLDOUT}})`,
            legend: '{{domain}} {{figure}} {{bound}}',
          },
        ],
      }),
    )
    .withPanel(
      series({
        title: 'Decisions',
        description: 'Decisions about masks in the last day.',
        unit: 'short',
        queries: [
          {
            expr: `sum by (kind, verdict) (increase(copal_decisions_total{${MODEL}}[1d]))`,
            legend: '{{kind}} {{verdict}}',
          },
        ],
      }),
    )
    .withPanel(
      series({
        title: 'Samples',
        description: 'What became of sampled texts, and what was replaced in them.',
        unit: 'short',
        queries: [
          {
            expr: 'sum by (decision) (rate(copal_sampler_decisions_total{domain=~"$domain"}[$__rate_interval]))',
            legend: '{{decision}}',
          },
          {
            expr: 'sum(rate(copal_redactions_total[$__rate_interval]))',
            legend: 'replacements',
          },
        ],
      }),
    )
}

import { RowBuilder, type DashboardBuilder } from '@grafana/grafana-foundation-sdk/dashboard'
import { dashboard, figure, labelVariable, series } from './panels.ts'

const MODEL = 'model=~"$model"'

/** The dashboard of what clients see: traffic, latency, failures, and the fleet that serves them. */
export function serviceDashboard(): DashboardBuilder {
  return dashboard('copal-service', 'copal: service', 'What clients see, and the fleet that serves them.')
    .withVariable(labelVariable('model', 'copal_model_active_version'))
    .withPanel(
      figure({
        title: 'Requests a second',
        description: 'Settled requests.',
        unit: 'reqps',
        queries: [{ expr: `sum(copal:requests:rate5m{${MODEL}})`, legend: 'requests' }],
      }),
    )
    .withPanel(
      figure({
        title: 'Tokens a second',
        description: 'Generated tokens.',
        unit: 'short',
        queries: [{ expr: `sum(copal:completion_tokens:rate5m{${MODEL}})`, legend: 'tokens' }],
      }),
    )
    .withPanel(
      figure({
        title: 'Failed',
        description: 'Share of the requests that ended with an error of the service.',
        unit: 'percentunit',
        queries: [{ expr: `max(copal:request_errors:ratio_rate5m{${MODEL}})`, legend: 'failed' }],
      }),
    )
    .withPanel(
      figure({
        title: 'First token, p95',
        description: 'From the arrival on the node to the first token.',
        unit: 's',
        queries: [{ expr: `max(copal:time_to_first_token_seconds:p95_5m{${MODEL}})`, legend: 'p95' }],
      }),
    )
    .withPanel(
      figure({
        title: 'Nodes',
        description: 'Nodes whose heartbeats arrive.',
        unit: 'short',
        queries: [{ expr: `sum by (model) (copal_nodes_alive{${MODEL}})`, legend: '{{model}}' }],
      }),
    )
    .withPanel(
      figure({
        title: 'Weights pruned',
        description: 'Share of the weights that the active mask prunes; no data while dense weights serve.',
        unit: 'percentunit',
        queries: [
          {
            expr: `max by (model) (copal_mask_sparsity_ratio{${MODEL}} and on (model, mask_version) count_values by (model) ("mask_version", copal_model_active_version{${MODEL}}))`,
            legend: '{{model}}',
          },
        ],
      }),
    )
    .withRow(new RowBuilder('Requests'))
    .withPanel(
      series({
        title: 'Requests by outcome',
        description: 'A refused request could not be served as it is, which is no failure of the service.',
        unit: 'reqps',
        queries: [{ expr: `sum by (outcome) (copal:requests:rate5m{${MODEL}})`, legend: '{{outcome}}' }],
      }),
    )
    .withPanel(
      series({
        title: 'Refused for want of a node or by a limit',
        description: 'Requests that got no node (429, 503).',
        unit: 'reqps',
        queries: [
          {
            expr: `sum by (reason) (rate(copal_requests_refused_total{${MODEL}}[$__rate_interval]))`,
            legend: '{{reason}}',
          },
        ],
      }),
    )
    .withPanel(
      series({
        title: 'Tokens',
        description: 'Prompt tokens are counted whole, also where a prefix was cached.',
        unit: 'short',
        queries: [
          { expr: `sum(copal:prompt_tokens:rate5m{${MODEL}})`, legend: 'prompt' },
          { expr: `sum(copal:completion_tokens:rate5m{${MODEL}})`, legend: 'generated' },
        ],
      }),
    )
    .withPanel(
      series({
        title: 'Time to first token',
        description: 'Of settled requests, as receipts report it.',
        unit: 's',
        queries: [0.5, 0.95, 0.99].map((quantile) => ({
          expr: `histogram_quantile(${quantile}, sum by (le) (rate(copal_request_time_to_first_token_seconds_bucket{${MODEL}}[$__rate_interval])))`,
          legend: `p${quantile * 100}`,
        })),
      }),
    )
    .withPanel(
      series({
        title: 'Duration',
        description: 'From the arrival of a request on its node to its last token.',
        unit: 's',
        queries: [
          {
            expr: `max by (model) (copal:request_duration_seconds:p95_5m{${MODEL}})`,
            legend: 'p95 {{model}}',
          },
        ],
      }),
    )
    .withPanel(
      series({
        title: 'Wait in the gateway',
        description: 'Attempts that wait because the fleet is full, and how long.',
        unit: 's',
        queries: [
          {
            expr: 'histogram_quantile(0.95, sum by (le) (rate(copal_dispatch_queue_duration_seconds_bucket[$__rate_interval])))',
            legend: 'p95',
          },
        ],
      }),
    )
    .withRow(new RowBuilder('Dispatch'))
    .withPanel(
      series({
        title: 'Attempts that failed on their node',
        description: 'The gateway tries another node where the client has seen nothing yet.',
        unit: 'reqps',
        queries: [
          {
            expr: `sum by (how) (rate(copal_dispatch_failures_total{${MODEL}}[$__rate_interval]))`,
            legend: '{{how}}',
          },
          {
            expr: `sum(rate(copal_dispatch_retries_total{${MODEL}}[$__rate_interval]))`,
            legend: 'retries',
          },
        ],
      }),
    )
    .withPanel(
      series({
        title: 'Circuit breakers',
        description: '0 closed, 1 half open (probing), 2 open: the gateway avoids the node.',
        unit: 'short',
        queries: [{ expr: `max by (node) (copal_node_breaker_state{${MODEL}})`, legend: '{{node}}' }],
      }),
    )
    .withPanel(
      series({
        title: 'Response cache',
        description: 'Requests that asked for a cached response.',
        unit: 'reqps',
        queries: [
          {
            expr: 'sum by (outcome) (rate(copal_cache_lookups_total[$__rate_interval]))',
            legend: '{{outcome}}',
          },
        ],
      }),
    )
}

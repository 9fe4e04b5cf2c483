import { RowBuilder, type DashboardBuilder } from '@grafana/grafana-foundation-sdk/dashboard'
import { dashboard, heatmap, labelVariable, series } from './panels.ts'

const NODE = 'instance=~"$instance"'
/** Histograms of the node are shown with exemplars, whose traces say where the time went. */
const p95 = (metric: string, by = 'le') =>
  `histogram_quantile(0.95, sum by (${by}) (rate(${metric}_bucket{${NODE}}[$__rate_interval])))`

/** The dashboard of nodes: latency, steps, cache, weights, jobs. */
export function nodeDashboard(): DashboardBuilder {
  return dashboard('copal-nodes', 'copal: nodes', 'How nodes spend their time and memory.')
    .withVariable(labelVariable('instance', 'copal_node_requests_running{job="copal-node"}'))
    .withRow(new RowBuilder('Latency'))
    .withPanel(
      series({
        title: 'Time to first token, p95',
        description: 'From the arrival of a request on the node. Points are exemplars: their traces.',
        unit: 's',
        queries: [
          {
            expr: p95('gen_ai_server_time_to_first_token_seconds', 'instance, le'),
            legend: '{{instance}}',
            exemplar: true,
          },
        ],
      }),
    )
    .withPanel(
      series({
        title: 'Time per output token, p95',
        description:
          'Mean of a request between two tokens, and between two steps: those with drafts sample several tokens.',
        unit: 's',
        queries: [
          {
            expr: p95('gen_ai_server_time_per_output_token_seconds'),
            legend: 'mean of a request',
            exemplar: true,
          },
          {
            expr: `copal:node_inter_token_seconds:p95_5m{${NODE}}`,
            legend: 'between two steps {{instance}}',
          },
        ],
      }),
    )
    .withPanel(
      series({
        title: 'Queue, p95',
        description: 'From the arrival of a request to its first step.',
        unit: 's',
        queries: [{ expr: p95('copal_node_queue_duration_seconds'), legend: 'p95' }],
      }),
    )
    .withPanel(
      heatmap({
        title: 'Steps',
        description: 'Duration of the steps of all weight sets.',
        unit: 's',
        queries: [
          {
            expr: `sum by (le) (increase(copal_node_step_duration_seconds_bucket{${NODE}}[$__rate_interval]))`,
            legend: '{{le}}',
          },
        ],
      }),
    )
    .withPanel(
      series({
        title: 'Batch size',
        description: 'Sequences that one step computes, mean.',
        unit: 'short',
        queries: [
          {
            expr: `sum by (instance) (rate(copal_node_step_batch_size_sum{${NODE}}[$__rate_interval])) / sum by (instance) (rate(copal_node_step_batch_size_count{${NODE}}[$__rate_interval]))`,
            legend: '{{instance}}',
          },
        ],
      }),
    )
    .withPanel(
      series({
        title: 'Tokens computed',
        description: 'By what they were computed for.',
        unit: 'short',
        queries: [
          {
            expr: `sum by (phase) (rate(copal_node_step_tokens_total{${NODE}}[$__rate_interval]))`,
            legend: '{{phase}}',
          },
        ],
      }),
    )
    .withPanel(
      series({
        title: 'Drafts that were right',
        description: 'Of the tokens that were fed as likely to follow.',
        unit: 'percentunit',
        queries: [
          {
            expr: `sum by (instance) (rate(copal_node_drafts_accepted_total{${NODE}}[$__rate_interval])) / sum by (instance) (rate(copal_node_step_tokens_total{phase="draft", ${NODE}}[$__rate_interval]))`,
            legend: '{{instance}}',
          },
        ],
      }),
    )
    .withRow(new RowBuilder('Load'))
    .withPanel(
      series({
        title: 'Requests',
        description: 'In prefill or decode, in the queue, and texts that are scored.',
        unit: 'short',
        queries: [
          { expr: `sum(copal_node_requests_running{job="copal-node", ${NODE}})`, legend: 'running' },
          { expr: `sum(copal_node_requests_waiting{job="copal-node", ${NODE}})`, legend: 'waiting' },
          { expr: `sum(copal_node_texts_scoring{${NODE}})`, legend: 'scoring' },
        ],
      }),
    )
    .withPanel(
      series({
        title: 'Key/value cache',
        description: 'Share in use; above 0.95 requests are preempted.',
        unit: 'percentunit',
        queries: [{ expr: `copal:node_kv_used:ratio{${NODE}}`, legend: '{{instance}}' }],
      }),
    )
    .withPanel(
      series({
        title: 'Prefix cache',
        description: 'Share of the prompts whose start was cached.',
        unit: 'percentunit',
        queries: [{ expr: `copal:node_prefix_hits:ratio_rate5m{${NODE}}`, legend: '{{instance}}' }],
      }),
    )
    .withPanel(
      series({
        title: 'Requests that ended, by code',
        description: 'Errors only.',
        unit: 'reqps',
        queries: [
          {
            expr: `sum by (code) (rate(copal_node_requests_total{${NODE}, outcome="error"}[$__rate_interval]))`,
            legend: '{{code}}',
          },
        ],
      }),
    )
    .withPanel(
      series({
        title: 'Receipts that wait',
        description: 'Receipts that the gateway has not accepted yet.',
        unit: 'short',
        queries: [{ expr: `copal_node_receipts_waiting{${NODE}}`, legend: '{{instance}}' }],
      }),
    )
    .withPanel(
      series({
        title: 'Process',
        description: 'Processor time and event loop; work of kernels is in both, that of jobs in neither.',
        unit: 'short',
        queries: [
          {
            expr: `sum by (instance) (rate(process_cpu_time_seconds_total{job="copal-node", ${NODE}}[$__rate_interval]))`,
            legend: 'processors {{instance}}',
          },
          {
            expr: `nodejs_eventloop_utilization_ratio{job="copal-node", ${NODE}}`,
            legend: 'event loop {{instance}}',
          },
        ],
      }),
    )
    .withRow(new RowBuilder('Weights'))
    .withPanel(
      series({
        title: 'Active mask',
        description: 'Mask that new requests start on; 0 is dense.',
        unit: 'short',
        queries: [{ expr: `copal_node_active_mask_version{${NODE}}`, legend: '{{instance}}' }],
      }),
    )
    .withPanel(
      series({
        title: 'Swaps',
        description: 'Parts of a swap: fetch, pack, flip, drain; mean.',
        unit: 's',
        queries: [
          {
            expr: `sum by (phase) (increase(copal_node_swap_duration_seconds_sum{${NODE}}[1h])) / (sum by (phase) (increase(copal_node_swap_duration_seconds_count{${NODE}}[1h])) > 0)`,
            legend: '{{phase}}',
          },
        ],
      }),
    )
    .withPanel(
      series({
        title: 'Weights in memory',
        description: 'Of each weight set, with what it shares with others, and of the process.',
        unit: 'bytes',
        queries: [
          {
            expr: `copal_node_weights_size_bytes{job="copal-node", ${NODE}}`,
            legend: '{{instance}} m{{mask_version}}',
          },
          { expr: `process_memory_usage_bytes{job="copal-node", ${NODE}}`, legend: 'process {{instance}}' },
        ],
      }),
    )
    .withPanel(
      series({
        title: 'Jobs of updates',
        description: 'Progress of the running job.',
        unit: 'percentunit',
        queries: [{ expr: `copal_node_job_progress_ratio{${NODE}}`, legend: '{{kind}} {{instance}}' }],
      }),
    )
}

import type { OverviewReport } from '@copal/shared/wire/admin-overview.ts'
import { Sparkline } from '../../charts/sparkline.tsx'
import { Facts } from '../../components/facts.tsx'
import { formatBytes, formatCount, formatMs, formatNumber, formatShare } from '../../format/numbers.ts'

/** Figures of the last minutes, and the memory that the mask saves. */
export function TrafficFacts({ overview }: { overview: OverviewReport }) {
  const { traffic, nodes, model } = overview
  const alive = nodes.filter((node) => node.alive).length
  const saved =
    model.weight_bytes !== null && model.dense_bytes !== null && model.dense_bytes > 0
      ? 1 - model.weight_bytes / model.dense_bytes
      : null
  return (
    <div class="section">
      <Facts
        facts={[
          {
            label: 'Tokens a second',
            value: formatCount(Math.round(traffic.tokens_per_second)),
            title: `${formatNumber(traffic.requests_per_second)} requests a second. The line: tokens of the last 60 minutes.`,
            beside: (
              <Sparkline
                values={traffic.tokens_trend}
                label={`Tokens of each of the last 60 minutes, now ${formatCount(traffic.tokens_trend.at(-1) ?? 0)} a minute`}
              />
            ),
          },
          { label: 'Running', value: formatCount(traffic.running), title: 'Requests that nodes answer now' },
          { label: 'Queue', value: formatCount(traffic.waiting), title: 'Requests that wait for a node' },
          {
            label: 'First token, p95',
            value: formatMs(traffic.first_token_ms_p95),
            title: 'Of 20 requests of the last minutes, 19 had their first token within this time.',
          },
          {
            label: 'Failed',
            value: formatShare(traffic.failed_share),
            title: 'Share of the requests that failed',
          },
          { label: 'Nodes alive', value: `${alive} of ${nodes.length}` },
          {
            label: 'Sparsity',
            value: model.mask ? formatShare(model.mask.sparsity) : 'dense',
            title: model.mask
              ? `Mask ${model.mask.version}, ${model.mask.method}, pattern ${model.mask.pattern}`
              : undefined,
          },
          {
            label: 'Weights on a node',
            value: formatBytes(model.weight_bytes),
            title:
              model.dense_bytes === null
                ? undefined
                : `Dense: ${formatBytes(model.dense_bytes)} in the same precision. A node may hold a mask in two forms, which takes more.`,
            beside: saved !== null && Math.abs(saved) > 0.001 && (
              <span class="soft">
                {saved > 0 ? `${formatShare(saved)} saved` : `dense ${formatBytes(model.dense_bytes)}`}
              </span>
            ),
          },
        ]}
      />
    </div>
  )
}

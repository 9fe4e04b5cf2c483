import { useMemo } from 'preact/hooks'
import type { DriftReport } from '@copal/shared/wire/admin.ts'
import { HeatMap } from '../../charts/heat-map.tsx'
import { Table, type Column } from '../../components/table.tsx'
import { formatExact, formatSignedPercent, NONE } from '../../format/numbers.ts'
import { holdoutName } from '../../format/words.ts'
import { Link } from '../../navigation/link.tsx'
import { paths } from '../../navigation/routes.ts'
import { changesFromDense, stageName, perplexityByMask, type MaskPerplexity } from './held-out.ts'

/** The R matrix: the perplexity of every domain after each mask, coloured by its distance from dense. */
export function RMatrix({ report, domain }: { report: DriftReport; domain: string }) {
  const { domains, stages, perplexity } = report.r
  const changes = useMemo(() => changesFromDense(report.r), [report])
  if (stages.length === 0 || domains.length === 0)
    return <p class="soft">No mask was judged on held-out text yet.</p>
  const value = (row: number, column: number) => perplexity[row]?.[column]
  return (
    <HeatMap
      title="Perplexity"
      summary="Colour: per cent over dense."
      rows={stages.map(({ mask_version: version }) => stageName(version))}
      columns={domains.map(holdoutName)}
      values={changes}
      scale="diverging"
      format={formatSignedPercent}
      text={(row, column) => formatExact(value(row, column))}
      describe={(row, column) => {
        const change = changes[row]?.[column]
        const stage = stages[row]
        const over =
          typeof change === 'number' && row > 0 ? `, ${formatSignedPercent(change)} over dense` : ''
        return `${stageName(stage?.mask_version ?? 0)}, ${holdoutName(domains[column] ?? '')}: ${formatExact(value(row, column))}${over}`
      }}
      corner="After"
      currentColumn={domains.indexOf(domain)}
    />
  )
}

const COLUMNS: readonly Column<MaskPerplexity>[] = [
  {
    key: 'mask',
    title: 'Mask',
    value: ({ version }) => version,
    cell: ({ version }) => (version === 0 ? 'dense' : <Link to={paths.mask(version)}>mask {version}</Link>),
    phone: 'first',
  },
  {
    key: 'perplexity',
    title: 'Perplexity',
    value: ({ perplexity }) => perplexity,
    cell: ({ perplexity }) => formatExact(perplexity),
    align: 'end',
    phone: 'first',
  },
  {
    key: 'change',
    title: 'Over dense',
    value: ({ change }) => change,
    cell: ({ change }) => (change === null ? NONE : formatSignedPercent(change)),
    align: 'end',
  },
  {
    key: 'calibrated',
    title: 'Calibrated on it',
    value: ({ isCalibrated }) => (isCalibrated ? 'yes' : 'no'),
  },
]

/** The perplexity of one domain's held-out text under each mask. */
export function HoldoutByMask({ report, domain }: { report: DriftReport; domain: string }) {
  const rows = useMemo(() => perplexityByMask(report.r, domain), [report, domain])
  return (
    <Table
      caption={`Perplexity of the held-out text of ${domain} by mask`}
      columns={COLUMNS}
      rows={rows}
      rowKey={({ version }) => String(version)}
      initialOrder={{ key: 'mask', descending: true }}
      empty={<p class="soft">No mask was judged on its held-out text yet.</p>}
    />
  )
}

import { useState } from 'preact/hooks'
import type { MaskEntry } from '@copal/shared/wire/admin.ts'
import { HeatMap } from '../../charts/heat-map.tsx'
import { SelectField } from '../../components/fields.tsx'
import { Loaded } from '../../components/loaded.tsx'
import { Skeleton } from '../../components/notices.tsx'
import { Section } from '../../components/page.tsx'
import { useResource } from '../../data/data.tsx'
import { maskName } from '../../format/mask-names.ts'
import { formatShare } from '../../format/numbers.ts'
import { extremesOf, linearGrid, nameOfLinear, type LinearValue } from './linear-grid.ts'
import { maskChurn, maskLinears } from './mask-endpoints.ts'

/** The sparsity of each linear, layers × kinds. */
export function SparsitySection({ mask }: { mask: MaskEntry }) {
  const linears = useResource(maskLinears(mask.version, mask.model))
  return (
    <Section title="Sparsity by linear">
      <Loaded resource={linears} skeleton={<Skeleton lines={8} />}>
        {(found) => {
          const values = found.linears.map(({ layer, kind, sparsity }) => ({ layer, kind, value: sparsity }))
          return (
            <LinearMap title="Share of weights left out" values={values} same="Every linear leaves out" />
          )
        }}
      </Loaded>
    </Section>
  )
}

/** The difference of two masks by linear, layers × kinds. */
export function ChurnSection({ mask, masks }: { mask: MaskEntry; masks: readonly MaskEntry[] }) {
  const [chosen, setChosen] = useState<number>()
  const other = chosen ?? mask.parent_version ?? 0
  const churn = useResource(maskChurn(mask.version, other, mask.model))
  const options = [
    ...masks
      .filter(({ version, swept_at: swept }) => version !== mask.version && swept == null)
      .map(({ version }) => ({
        value: String(version),
        label: `Mask ${version}${version === mask.parent_version ? ', its parent' : ''}`,
      })),
    { value: '0', label: 'Dense weights' },
  ]
  return (
    <Section
      title="Difference"
      actions={
        <SelectField
          label="Compared with"
          hidesLabel
          value={String(other)}
          options={options}
          onChange={(value) => setChosen(Number(value))}
        />
      }
    >
      <Loaded resource={churn} skeleton={<Skeleton lines={8} />}>
        {(found) => {
          if (found.churn === 0) return <p>{`It leaves out the same weights as ${maskName(other)}.`}</p>
          const values = found.linears.map(({ layer, kind, churn: value }) => ({ layer, kind, value }))
          return (
            <LinearMap
              title={`Share of weights that differ from ${maskName(other)}`}
              values={values}
              whole={`${formatShare(found.churn)} of all weights differ. `}
              same="Every linear differs in"
            />
          )
        }}
      </Loaded>
    </Section>
  )
}

interface LinearMapProps {
  title: string
  /** What is said of all linears together. */
  whole?: string
  /** Begins the sentence that stands in place of the map if all linears have the same value. */
  same: string
  values: readonly LinearValue[]
}

function LinearMap({ title, whole = '', same, values }: LinearMapProps) {
  const extremes = extremesOf(values)
  if (!extremes) return null
  const { most, least } = extremes
  if (most.value - least.value < 0.0005) return <p>{`${whole}${same} ${formatShare(most.value)}.`}</p>
  const { kinds, layers, values: grid } = linearGrid(values)
  return (
    <HeatMap
      title={title}
      summary={`${whole}Most in ${nameOfLinear(most)} (${formatShare(most.value)}), least in ${nameOfLinear(least)} (${formatShare(least.value)}).`}
      rows={kinds}
      columns={layers.map(String)}
      values={grid}
      scale="sequential"
      format={formatShare}
      corner="Layer"
      describe={(row, column) => {
        const value = grid[row]?.[column]
        return `${kinds[row]} of layer ${layers[column]}: ${value == null ? 'not pruned' : formatShare(value)}`
      }}
    />
  )
}

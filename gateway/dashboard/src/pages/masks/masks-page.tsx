import { useMemo, useState } from 'preact/hooks'
import type { MaskEntry, UpdateEntry } from '@copal/shared/wire/admin.ts'
import { Loaded } from '../../components/loaded.tsx'
import { Empty, Skeleton } from '../../components/notices.tsx'
import { Num } from '../../components/num.tsx'
import { Page, Section, sentenceWhenLoaded } from '../../components/page.tsx'
import { Headings, type Heading } from '../../components/plain-table.tsx'
import { Status } from '../../components/status.tsx'
import { Time } from '../../components/time.tsx'
import { useResource } from '../../data/data.tsx'
import * as endpoints from '../../data/endpoints.ts'
import { hasCome } from '../../data/resource.ts'
import { maskName } from '../../format/mask-names.ts'
import { formatBytes, formatShare } from '../../format/numbers.ts'
import { Link } from '../../navigation/link.tsx'
import { useModel } from '../../navigation/navigation.tsx'
import { paths } from '../../navigation/routes.ts'
import { ActivateButton } from './activate-button.tsx'
import { LineageCell } from './lineage-cell.tsx'
import { lineageRows } from './lineage.ts'
import { masksSentence, stateOfMask } from './mask-words.ts'

/** Rows that are shown before a button shows the others. */
const FIRST_ROWS = 40

const HEADINGS: readonly Heading[] = [
  { title: 'Lineage', hidesTitle: true },
  { title: 'Mask' },
  { title: 'State' },
  { title: 'Chosen for' },
  { title: 'Sparsity', align: 'end' },
  { title: 'Churn', align: 'end', hint: 'Share of weights that its parent treats differently' },
  { title: 'File', align: 'end' },
  { title: 'Created', align: 'end' },
]

/** The masks of a model: lineage and states. */
export function MasksPage() {
  const model = useModel()
  const masks = useResource(endpoints.masks(model), 15_000)
  const status = useResource(endpoints.status(), 10_000)
  const updates = useResource(endpoints.updates(), 15_000)
  const list = masks.value?.data
  const current = status.value?.models.find(({ id }) => id === (model ?? list?.[0]?.model ?? id))
  const active = current?.active_version ?? list?.find((mask) => mask.active)?.version ?? 0
  return (
    <Page
      title="Masks"
      sentence={sentenceWhenLoaded(masks, ({ data }) => (
        <p>{masksSentence(data, active)}</p>
      ))}
      actions={
        list &&
        current &&
        status.value && (
          <>
            {current.previous_version !== null && current.previous_version !== 0 && (
              <ActivateButton
                model={current.id}
                from={active}
                to={current.previous_version}
                masks={list}
                nodes={status.value.nodes}
                wasRolledBack={(updates.value?.data ?? []).some(
                  ({ model: of, mask_version: version, state }) =>
                    of === current.id && version === current.previous_version && state === 'rolled_back',
                )}
              />
            )}
            <ActivateButton model={current.id} from={active} to={0} masks={list} nodes={status.value.nodes} />
          </>
        )
      }
    >
      <Section title="Lineage" note="Newest first; each mask is joined to its parent">
        <Loaded resource={masks}>
          {({ data }) =>
            data.length === 0 ? (
              <Empty title="There is no mask yet.">
                <p>
                  The first <Link to="/updates">update</Link> selects one from the texts of your domains.
                </p>
              </Empty>
            ) : !hasCome(status) || !hasCome(updates) ? (
              <Skeleton lines={12} />
            ) : (
              <LineageTable
                masks={data}
                active={active}
                updates={updates.value?.data ?? []}
                canary={current?.canary?.mask_version}
              />
            )
          }
        </Loaded>
      </Section>
    </Page>
  )
}

function LineageTable({
  masks,
  active,
  updates,
  canary,
}: {
  masks: readonly MaskEntry[]
  active: number
  updates: readonly UpdateEntry[]
  /** The version of the canary. */
  canary: number | undefined
}) {
  const [showsAll, setShowsAll] = useState(false)
  const { rows, lanes } = useMemo(() => lineageRows(masks, active), [masks, active])
  const byVersion = new Map(masks.map((mask) => [mask.version, mask]))
  const shown = showsAll ? rows : rows.slice(0, FIRST_ROWS)
  return (
    <div class="table lineage-table" style={{ '--lanes': lanes }}>
      <table>
        <caption class="visually-hidden">Masks, newest first</caption>
        <Headings columns={HEADINGS} />
        <tbody>
          {shown.map((row) => {
            const mask = byVersion.get(row.version)
            return (
              <tr key={row.version}>
                <td class="lineage-cell">
                  <LineageCell row={row} lanes={lanes} isActive={row.version === active} />
                </td>
                {mask ? (
                  <MaskCells
                    mask={mask}
                    update={updateOf(mask, updates)}
                    isCanary={mask.version === canary}
                  />
                ) : (
                  <DenseCells isActive={active === 0} />
                )}
              </tr>
            )
          })}
        </tbody>
      </table>
      {shown.length < rows.length && (
        <button type="button" class="button button-small" onClick={() => setShowsAll(true)}>
          Show all {rows.length - 1} masks
        </button>
      )}
    </div>
  )
}

/** The update that made a mask, among the newest. */
export function updateOf(mask: MaskEntry, updates: readonly UpdateEntry[]): UpdateEntry | undefined {
  return updates.find((update) => update.model === mask.model && update.mask_version === mask.version)
}

function MaskCells({
  mask,
  update,
  isCanary,
}: {
  mask: MaskEntry
  update: UpdateEntry | undefined
  isCanary: boolean
}) {
  const state = stateOfMask(mask, update, isCanary)
  const parent = maskName(mask.parent_version ?? 0)
  return (
    <>
      <td class="phone-first">
        <Link to={paths.mask(mask.version)} title={`From ${parent}`}>
          Mask {mask.version}
        </Link>
        <span class="visually-hidden">, from {parent}</span>
        {mask.pinned && <span class="soft"> pinned</span>}
      </td>
      <td class="phone-first">
        <Status tone={state.tone}>{state.word}</Status>
      </td>
      <td class="phone-second">{mask.domains.join(', ')}</td>
      <td class="align-end phone-second" data-title="Sparsity">
        <Num>{formatShare(mask.sparsity)}</Num>
      </td>
      <td class="align-end phone-second" data-title="Churn">
        <Num>{formatShare(mask.churn)}</Num>
      </td>
      <td class="align-end phone-none">
        <Num>{formatBytes(mask.bytes)}</Num>
      </td>
      <td class="align-end phone-second">
        <Time at={mask.created_at} as="clock" />
      </td>
    </>
  )
}

function DenseCells({ isActive }: { isActive: boolean }) {
  return (
    <>
      <td class="phone-first">Dense weights</td>
      <td class="phone-first">{isActive && <Status tone="good">serves</Status>}</td>
      <td class="phone-none" colSpan={5} />
    </>
  )
}

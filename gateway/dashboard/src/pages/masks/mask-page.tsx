import type { MaskEntry, StatusReport, UpdateEntry } from '@copal/shared/wire/admin.ts'
import { ConfirmButton } from '../../components/confirm-button.tsx'
import { Facts } from '../../components/facts.tsx'
import { Loaded } from '../../components/loaded.tsx'
import { Empty, Skeleton } from '../../components/notices.tsx'
import { MaskLink } from '../../components/mask-link.tsx'
import { Num } from '../../components/num.tsx'
import { Page, Section, sentenceWhenLoaded } from '../../components/page.tsx'
import { Status } from '../../components/status.tsx'
import { Table, type Column } from '../../components/table.tsx'
import { Time } from '../../components/time.tsx'
import { endpoint } from '../../data/client.ts'
import { useClient, useResource } from '../../data/data.tsx'
import * as endpoints from '../../data/endpoints.ts'
import { maskNameFirst } from '../../format/mask-names.ts'
import { formatBytes, formatExact, formatShare, formatSignedPercent } from '../../format/numbers.ts'
import { GENERAL, holdoutName } from '../../format/words.ts'
import { Link } from '../../navigation/link.tsx'
import { useModel } from '../../navigation/navigation.tsx'
import { paths, type PathParams } from '../../navigation/routes.ts'
import { useSession } from '../../session/session.tsx'
import { ActivateButton } from './activate-button.tsx'
import { ChurnSection, SparsitySection } from './linear-maps.tsx'
import { maskSentence, perplexityRows, stateOfMask, type PerplexityRow } from './mask-words.ts'
import { updateOf } from './masks-page.tsx'
import { mayStartTrial, operatorTrials } from './operator-trial.ts'
import { OperatorTrials } from './operator-trials.tsx'
import { TrialButton } from './trial-button.tsx'

/** One mask: the domains that it was chosen for, its sparsity by linear, its difference from others, its perplexity. */
export function MaskPage({ params }: { params: PathParams }) {
  const version = Number(params['version'])
  const model = useModel()
  const masks = useResource(endpoints.masks(model), 15_000)
  const status = useResource(endpoints.status(), 10_000)
  const updates = useResource(endpoints.updates(), 15_000)
  const mask = masks.value?.data.find((each) => each.version === version)
  const update = mask && updateOf(mask, updates.value?.data ?? [])
  const current = status.value?.models.find(({ id }) => id === mask?.model)
  // An operator's canary is known by the model alone.
  const isCanary = current?.canary ? current.canary.mask_version === version : undefined
  const state = mask && stateOfMask(mask, update, isCanary)
  return (
    <Page
      title={maskNameFirst(version)}
      above={<Link to="/masks">Masks</Link>}
      sentence={sentenceWhenLoaded(masks, () => mask && state && <p>{maskSentence(mask, state)}</p>)}
      actions={
        mask && (
          <MaskActions
            mask={mask}
            masks={masks.value?.data ?? []}
            status={status.value}
            wasRolledBack={update?.state === 'rolled_back'}
          />
        )
      }
    >
      <Loaded resource={masks}>
        {({ data }) =>
          mask && state ? (
            <MaskBody
              key={mask.version}
              mask={mask}
              state={state}
              masks={data}
              update={update}
              model={current}
            />
          ) : (
            <Empty
              title={
                version === 0 ? 'The dense weights have no mask.' : `There is no mask ${params['version']}.`
              }
            >
              <p>
                <Link to="/masks">See all masks</Link>
              </p>
            </Empty>
          )
        }
      </Loaded>
    </Page>
  )
}

function MaskBody({
  mask,
  state,
  masks,
  update,
  model,
}: {
  mask: MaskEntry
  state: ReturnType<typeof stateOfMask>
  masks: readonly MaskEntry[]
  update: UpdateEntry | undefined
  model: StatusReport['models'][number] | undefined
}) {
  const drift = useResource(endpoints.drift(mask.model))
  const children = masks.filter(({ parent_version: parent }) => parent === mask.version)
  const hasFile = mask.swept_at == null
  return (
    <>
      <div class="page-facts">
        <Facts
          facts={[
            { label: 'State', value: <Status tone={state.tone}>{state.word}</Status> },
            { label: 'Sparsity', value: formatShare(mask.sparsity) },
            {
              label: 'Churn',
              value: formatShare(mask.churn),
              title: 'Share of weights that its parent treats differently',
            },
            { label: 'Parent', value: <MaskLink version={mask.parent_version ?? 0} /> },
            {
              label: 'Children',
              value:
                children.length === 0
                  ? 'none'
                  : children.map(({ version }, index) => (
                      <>
                        {index > 0 && ', '}
                        <MaskLink key={version} version={version} />
                      </>
                    )),
            },
            { label: 'First active', value: <Time at={mask.promoted_at} as="clock" missing="never" /> },
            { label: 'Method', value: mask.method, title: `pattern ${mask.pattern}, scope ${mask.scope}` },
            { label: 'File', value: formatBytes(mask.bytes), title: `SHA-256 ${mask.sha256}` },
          ]}
        />
      </div>
      {model && <OperatorTrials mask={mask} model={model} />}
      <Section
        title="Chosen for"
        note={
          update && (
            <>
              by the <Link to={paths.update(update.id)}>update</Link> of{' '}
              <Time at={update.created_at} as="clock" />
            </>
          )
        }
      >
        <ul class="names">
          {mask.domains.map((name) => (
            <li key={name}>
              <Link to={paths.domain(name)}>{name}</Link>
            </li>
          ))}
        </ul>
      </Section>
      <Section title="Perplexity on held-out text" note="Lower is better">
        <Loaded resource={drift} skeleton={<Skeleton lines={6} />}>
          {({ r }) => (
            <Table
              caption="Perplexity by domain"
              columns={PERPLEXITY_COLUMNS}
              rows={perplexityRows(r, mask)}
              rowKey={({ domain }) => domain}
              csv={`copal-mask-${mask.version}`}
              empty={<NoPerplexities mask={mask} update={update} />}
            />
          )}
        </Loaded>
      </Section>
      {hasFile ? (
        <>
          <SparsitySection mask={mask} />
          <ChurnSection mask={mask} masks={masks} />
        </>
      ) : (
        <Empty title="Its file was deleted because it had not been used for long.">
          <p>Pin a mask to keep its file.</p>
        </Empty>
      )}
    </>
  )
}

const PERPLEXITY_COLUMNS: readonly Column<PerplexityRow>[] = [
  {
    key: 'domain',
    title: 'Domain',
    phone: 'first',
    value: ({ domain }) => domain,
    cell: ({ domain, learned }) => (
      <>
        {domain === GENERAL ? holdoutName(domain) : <Link to={paths.domain(domain)}>{domain}</Link>}
        {learned && <span class="cell-note">learned</span>}
      </>
    ),
  },
  {
    key: 'own',
    title: 'This mask',
    align: 'end',
    phone: 'first',
    value: ({ own }) => own,
    cell: ({ own }) => <Num>{formatExact(own)}</Num>,
  },
  {
    key: 'parent',
    title: 'Parent',
    align: 'end',
    value: ({ parent }) => parent,
    cell: ({ parent, own }) => <Compared own={own} other={parent} />,
  },
  {
    key: 'dense',
    title: 'Dense',
    align: 'end',
    value: ({ dense }) => dense,
    cell: ({ dense, own }) => <Compared own={own} other={dense} />,
  },
]

/** A perplexity, and how much the mask's is above or below it. */
function Compared({ own, other }: { own: number; other: number | null }) {
  if (other === null) return <Num>–</Num>
  return (
    <span class="num">
      {formatExact(other)}{' '}
      <span class="soft" title="This mask against it">
        {formatSignedPercent((own / other - 1) * 100)}
      </span>
    </span>
  )
}

function NoPerplexities({ mask, update }: { mask: MaskEntry; update: UpdateEntry | undefined }) {
  if (mask.promoted_at !== null)
    return <p class="soft">It was not evaluated on the present held-out texts.</p>
  return (
    <p class="soft">
      This table has masks that have been active.
      {update && (
        <>
          {' '}
          The figures of the gate are on the page of its <Link to={paths.update(update.id)}>update</Link>.
        </>
      )}
    </p>
  )
}

function MaskActions({
  mask,
  masks,
  status,
  wasRolledBack,
}: {
  mask: MaskEntry
  masks: readonly MaskEntry[]
  status: StatusReport | undefined
  wasRolledBack: boolean
}) {
  const { may_change: mayChange } = useSession()
  const model = status?.models.find(({ id }) => id === mask.model)
  const query = `left=${mask.version}&right=${mask.active ? 0 : (model?.active_version ?? 0)}`
  return (
    <>
      {mask.swept_at == null && (
        <Link class="button" to={`/playground?${query}`}>
          Try it
        </Link>
      )}
      {mask.swept_at == null && (
        <a
          class="button"
          href={endpoint(`/admin/masks/${mask.version}/file`, { model: mask.model }).path}
          download
        >
          Download
        </a>
      )}
      {mayChange && <PinButton mask={mask} />}
      {mayChange &&
        model &&
        mayStartTrial(model, mask) &&
        operatorTrials(model, mask.version).length === 0 && <TrialButton mask={mask} model={model} />}
      {model && mask.promoted_at !== null && mask.swept_at == null && (
        <ActivateButton
          model={model.id}
          from={model.active_version}
          to={mask.version}
          masks={masks}
          nodes={status?.nodes ?? []}
          wasRolledBack={wasRolledBack}
          label="Make it active"
        />
      )}
    </>
  )
}

function PinButton({ mask }: { mask: MaskEntry }) {
  const client = useClient()
  const { path } = endpoint(`/admin/masks/${mask.version}/pin`, { model: mask.model })
  const change = (method: 'PUT' | 'DELETE') => async () => {
    await client.send(method, path)
    client.refresh('/admin/masks')
  }
  if (mask.pinned)
    return (
      <ConfirmButton
        label="Unpin"
        title={`Unpin mask ${mask.version}?`}
        consequences={[
          'Its file may be deleted when nothing has used it for long. Pin it again to keep it; a deleted file does not come back.',
        ]}
        confirm="Unpin it"
        act={change('DELETE')}
        done={`Mask ${mask.version} is not pinned any more.`}
      />
    )
  if (mask.swept_at != null) return null
  return (
    <ConfirmButton
      label="Pin"
      tone="plain"
      title={`Pin mask ${mask.version}?`}
      consequences={[
        `Its file of ${formatBytes(mask.bytes)} is kept however old it is, so you can return to it. Unpin it to let it go.`,
      ]}
      confirm="Pin it"
      act={change('PUT')}
      done={`Mask ${mask.version} is pinned.`}
    />
  )
}

import type { ComponentChildren } from 'preact'
import type { MaskEntry, StatusReport } from '@copal/shared/wire/admin.ts'
import { ConfirmButton } from '../../components/confirm-button.tsx'
import { Loaded } from '../../components/loaded.tsx'
import { MaskLink } from '../../components/mask-link.tsx'
import { LossDifference, Num } from '../../components/num.tsx'
import { Section } from '../../components/page.tsx'
import { Table, type Column } from '../../components/table.tsx'
import { endpoint } from '../../data/client.ts'
import { useClient, useResource } from '../../data/data.tsx'
import { formatCount, formatMs, formatShare } from '../../format/numbers.ts'
import { Link } from '../../navigation/link.tsx'
import { paths } from '../../navigation/routes.ts'
import { useSession } from '../../session/session.tsx'
import { canary, shadow } from './mask-endpoints.ts'
import {
  canaryRows,
  endConsequences,
  operatorTrials,
  shadowRows,
  trialSentence,
  type CanaryRow,
  type ShadowRow,
  type TrialKind,
} from './operator-trial.ts'

type Model = StatusReport['models'][number]

/** The trials of a mask that an operator started: what they have shown so far, and a button that ends each. */
export function OperatorTrials({ mask, model }: { mask: MaskEntry; model: Model }) {
  return (
    <>
      {operatorTrials(model, mask.version).map((kind) =>
        kind === 'canary' ? (
          <CanarySection key={kind} model={model} />
        ) : (
          <ShadowSection key={kind} model={model} />
        ),
      )}
    </>
  )
}

function CanarySection({ model }: { model: Model }) {
  const resource = useResource(canary(model.id), 15_000)
  return (
    <TrialSection kind="canary" model={model} nodes={resource.value?.nodes}>
      <Loaded resource={resource}>
        {(report) => (
          <Table
            caption="Traffic since the canary began"
            columns={CANARY_COLUMNS}
            rows={canaryRows(report)}
            rowKey={({ mask_version: version }) => String(version)}
            empty={<p class="soft">No request was answered since it began.</p>}
          />
        )}
      </Loaded>
    </TrialSection>
  )
}

function ShadowSection({ model }: { model: Model }) {
  const resource = useResource(shadow(model.id), 15_000)
  return (
    <TrialSection kind="shadow" model={model} nodes={resource.value?.nodes}>
      <Loaded resource={resource}>
        {(report) => (
          <Table
            caption="Prompts that both masks scored"
            columns={SHADOW_COLUMNS}
            rows={shadowRows(report)}
            rowKey={({ domain }) => domain}
            empty={<p class="soft">No request was scored under both masks yet.</p>}
          />
        )}
      </Loaded>
    </TrialSection>
  )
}

interface TrialSectionProps {
  kind: TrialKind
  model: Model
  nodes: Parameters<typeof trialSentence>[2]
  children: ComponentChildren
}

function TrialSection({ kind, model, nodes, children }: TrialSectionProps) {
  const { may_change: mayChange } = useSession()
  return (
    <Section
      title={kind === 'canary' ? 'Canary' : 'Shadow'}
      note={trialSentence(kind, model[kind]?.share ?? 0, nodes)}
      actions={mayChange && <EndButton kind={kind} model={model} />}
    >
      {children}
      {nodes?.errors.map(({ node, message }) => (
        <p key={node} class="harm chart-note">
          {node} has not loaded it: {message}
        </p>
      ))}
    </Section>
  )
}

function EndButton({ kind, model }: { kind: TrialKind; model: Model }) {
  const client = useClient()
  return (
    <ConfirmButton
      small
      label={`End the ${kind}`}
      title={`End the ${kind}?`}
      consequences={endConsequences(kind, model)}
      confirm={`End the ${kind}`}
      act={async () => {
        await client.send('DELETE', endpoint(`/admin/${kind}`, { model: model.id }).path)
        client.refresh('/admin/')
      }}
      done={`The ${kind} has ended.`}
    />
  )
}

const CANARY_COLUMNS: readonly Column<CanaryRow>[] = [
  {
    key: 'mask',
    title: 'Mask',
    phone: 'first',
    value: ({ mask_version: version }) => version,
    cell: ({ mask_version: version }) => <MaskLink version={version} />,
  },
  {
    key: 'requests',
    title: 'Requests',
    align: 'end',
    value: ({ requests }) => requests,
    cell: ({ requests }) => <Num>{formatCount(requests)}</Num>,
  },
  {
    key: 'failed',
    title: 'Failed',
    align: 'end',
    value: ({ failedShare }) => failedShare,
    cell: ({ failedShare }) => <Num>{formatShare(failedShare)}</Num>,
  },
  {
    key: 'first-token',
    title: 'First token',
    align: 'end',
    hint: 'Mean time to the first token',
    value: ({ time_to_first_token_ms: ms }) => ms,
    cell: ({ time_to_first_token_ms: ms }) => <Num>{formatMs(ms)}</Num>,
  },
  {
    key: 'tokens',
    title: 'Scored tokens',
    align: 'end',
    value: ({ scored_tokens: tokens }) => tokens,
    cell: ({ scored_tokens: tokens }) => <Num>{formatCount(tokens)}</Num>,
  },
  {
    key: 'cost',
    title: 'Cost',
    align: 'end',
    hint: 'Perplexity over dense on the texts of its requests',
    value: ({ cost }) => cost,
    cell: ({ cost }) => <LossDifference nats={cost} />,
  },
]

const SHADOW_COLUMNS: readonly Column<ShadowRow>[] = [
  {
    key: 'domain',
    title: 'Domain',
    phone: 'first',
    value: ({ domain }) => domain,
    cell: ({ domain }) =>
      domain.startsWith('(') ? 'other domains' : <Link to={paths.domain(domain)}>{domain}</Link>,
  },
  {
    key: 'change',
    title: 'Change',
    align: 'end',
    phone: 'first',
    hint: 'Perplexity of the prompts under this mask against that under the active one',
    value: ({ change }) => change,
    cell: ({ change }) => <LossDifference nats={change} />,
  },
  {
    key: 'requests',
    title: 'Requests',
    align: 'end',
    value: ({ requests }) => requests,
    cell: ({ requests }) => <Num>{formatCount(requests)}</Num>,
  },
  {
    key: 'tokens',
    title: 'Tokens',
    align: 'end',
    value: ({ tokens }) => tokens,
    cell: ({ tokens }) => <Num>{formatCount(tokens)}</Num>,
  },
]

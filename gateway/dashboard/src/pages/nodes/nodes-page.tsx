import type { ProbeEntry } from '@copal/shared/wire/admin-alerts.ts'
import type { NodeEntry, StatusReport } from '@copal/shared/wire/admin.ts'
import { ConfirmButton } from '../../components/confirm-button.tsx'
import { Loaded } from '../../components/loaded.tsx'
import { Code } from '../../components/copy-button.tsx'
import { LoadedTogether } from '../../components/loaded-together.tsx'
import { Empty, Skeleton } from '../../components/notices.tsx'
import { MaskLink } from '../../components/mask-link.tsx'
import { Num } from '../../components/num.tsx'
import { Page, Section, SentencePlace, sentenceWhenLoaded } from '../../components/page.tsx'
import { Sentence } from '../../components/sentence.tsx'
import { Status } from '../../components/status.tsx'
import { Table, type Column } from '../../components/table.tsx'
import { Time } from '../../components/time.tsx'
import { useClient, useResource } from '../../data/data.tsx'
import * as endpoints from '../../data/endpoints.ts'
import { hasCome, type Resource } from '../../data/resource.ts'
import { shortMaskName } from '../../format/mask-names.ts'
import { formatBytes, formatCount, formatDuration, formatNumber, formatShare } from '../../format/numbers.ts'
import { Link } from '../../navigation/link.tsx'
import { useModel, useNavigation } from '../../navigation/navigation.tsx'
import { paths } from '../../navigation/routes.ts'
import { useSession } from '../../session/session.tsx'
import {
  drainConsequences,
  failedJobs,
  fleetPhrases,
  mayHaveFailed,
  otherSets,
  pagesShare,
  probesSentence,
  requestsOf,
  stateOfNode,
  wantedVersion,
} from './node-words.ts'

/** The nodes: masks, load, and the soundness of their weights. */
export function NodesPage() {
  const model = useModel()
  const status = useResource(endpoints.status(), 3_000)
  const probes = useResource(endpoints.probes(model), 30_000)
  const failing = useResource(endpoints.nodes(), 30_000)
  const { may_change: mayChange } = useSession()
  const wanted = useNavigation().query.get('q') ?? undefined
  return (
    <Page
      title="Fleet"
      sentence={sentenceWhenLoaded(status, ({ nodes: all, models }) =>
        hasCome(probes) ? (
          <Sentence phrases={fleetPhrases(all, models, probes.value?.probes ?? [])} />
        ) : (
          <SentencePlace />
        ),
      )}
    >
      {!hasCome(status) ? (
        <div class="page-place">
          <Skeleton lines={8} />
        </div>
      ) : (
        <LoadedTogether resources={[status, probes]}>
          <Section title="Nodes">
            <Loaded resource={status}>
              {({ nodes: all, models }) => (
                <Table
                  caption="Nodes"
                  columns={[...columnsOf(models), ...(mayChange ? [drainColumn(all)] : [])]}
                  rows={all}
                  rowKey={({ id }) => id}
                  filter={all.length > 8 || wanted !== undefined}
                  initialFilter={wanted}
                  csv="copal-nodes"
                  empty={<NoNodes />}
                />
              )}
            </Loaded>
          </Section>
          {mayHaveFailed(failing) && <FailedJobs nodes={failing} />}
          {/* Placed when it is known whether failed jobs stand above. */}
          {hasCome(failing) && status.value?.nodes.length !== 0 && (
            <Section
              title="Probe texts"
              note="The same fixed texts, scored by every node after a swap and every few minutes"
            >
              <Loaded resource={probes}>
                {({ probes: entries }) => (
                  <>
                    <p class="reason">{probesSentence(entries)}</p>
                    {entries.length > 0 && (
                      <Table
                        caption="Scores of the probe texts"
                        columns={PROBE_COLUMNS}
                        rows={entries.toSorted((a, b) => Number(a.matches) - Number(b.matches))}
                        rowKey={({ node, mask_version: version }) => `${node} ${version}`}
                      />
                    )}
                  </>
                )}
              </Loaded>
            </Section>
          )}
        </LoadedTogether>
      )}
    </Page>
  )
}

/** The last job that failed on each node. */
function FailedJobs({ nodes }: { nodes: Resource<endpoints.List<NodeEntry>> }) {
  return (
    <Section title="Failed jobs" note="The last of each node that may be the node's own fault">
      <Loaded resource={nodes}>
        {({ data }) =>
          failedJobs(data).map(({ node, update, at, reason }) => (
            <p class="reason" key={node}>
              {node}: a job of <Link to={paths.update(update)}>an update</Link> failed. {reason}{' '}
              <Time at={at} />
            </p>
          ))
        }
      </Loaded>
    </Section>
  )
}

function columnsOf(models: StatusReport['models']): Column<NodeEntry>[] {
  return [
    {
      key: 'id',
      title: 'Node',
      phone: 'first',
      value: ({ id, device, url }) => `${id} ${device ?? ''} ${url}`,
      cell: ({ id, url, device }) => (
        <span title={url}>
          {id}
          {device != null && <span class="cell-note">{device}</span>}
        </span>
      ),
    },
    {
      key: 'state',
      title: 'State',
      phone: 'first',
      value: (node) => stateOfNode(node).word,
      cell: (node) => <Status tone={stateOfNode(node).tone}>{stateOfNode(node).word}</Status>,
    },
    {
      key: 'mask',
      title: 'Mask',
      align: 'end',
      value: ({ active_version: version }) => version,
      cell: (node) => {
        const { active_version: version } = node
        const wanted = wantedVersion(node, models)
        return wanted === undefined || version === wanted ? (
          <MaskLink version={version} />
        ) : (
          <span title={`The active mask is ${shortMaskName(wanted)}`}>
            <MaskLink version={version} /> <span class="soft">not {shortMaskName(wanted)} yet</span>
          </span>
        )
      },
    },
    {
      key: 'holds',
      title: 'Also holds',
      phone: 'none',
      hint: 'Other weights that it has loaded, so that requests can use them at once.',
      value: otherSets,
      cell: (node) => (
        <span title={describeSets(node)}>{otherSets(node) === '' ? '–' : otherSets(node)}</span>
      ),
    },
    {
      key: 'running',
      title: 'Running',
      align: 'end',
      value: ({ running }) => running,
      cell: (node) => <Num title={`${requestsOf(node)} requests in all`}>{formatCount(node.running)}</Num>,
    },
    {
      key: 'waiting',
      title: 'Waiting',
      align: 'end',
      value: ({ waiting }) => waiting,
      cell: ({ waiting }) => <Num>{formatCount(waiting)}</Num>,
    },
    {
      key: 'pages',
      title: 'KV cache',
      align: 'end',
      hint: 'Share of the key/value cache in use.',
      value: (node) => pagesShare(node),
      cell: (node) => (
        <Num title={`${formatCount(node.kv_tokens_used)} of ${formatCount(node.kv_tokens_total)} tokens`}>
          {formatShare(pagesShare(node))}
        </Num>
      ),
    },
    {
      key: 'rate',
      title: 'Tokens/s',
      align: 'end',
      value: ({ tokens_per_second: rate }) => rate,
      cell: ({ tokens_per_second: rate }) => <Num>{formatNumber(rate)}</Num>,
    },
    {
      key: 'seen',
      title: 'Seen',
      align: 'end',
      value: ({ seen_ms_ago: ms }) => ms,
      cell: ({ seen_ms_ago: ms }) => <Num>{`${formatDuration(ms / 1000)} ago`}</Num>,
    },
  ]
}

function describeSets({ weight_sets: sets, weight_memory: memory }: NodeEntry): string {
  const unheld = (memory?.unheld ?? []).map(
    ({ version, bytes }) => `${shortMaskName(version)} has no room, ${formatBytes(bytes)}`,
  )
  const held = sets.map(({ version, state, bytes, form, form_reason: reason, error }) =>
    [
      `${shortMaskName(version)} ${state}`,
      bytes == null ? '' : formatBytes(bytes),
      form == null ? '' : `stored ${form} (${reason})`,
      error ?? '',
    ]
      .filter((part) => part !== '')
      .join(', '),
  )
  return [...held, ...unheld].join('\n')
}

function drainColumn(nodes: readonly NodeEntry[]): Column<NodeEntry> {
  return {
    key: 'drain',
    title: '',
    align: 'end',
    value: () => null,
    cell: (node) => <DrainButton node={node} nodes={nodes} />,
  }
}

function DrainButton({ node, nodes }: { node: NodeEntry; nodes: readonly NodeEntry[] }) {
  const client = useClient()
  const change = (method: 'PUT' | 'DELETE') => async () => {
    await client.send(method, `/admin/nodes/${encodeURIComponent(node.id)}/drain`)
    client.refresh('/admin/status', '/admin/nodes')
  }
  if (node.drained_by_operator)
    return (
      <ConfirmButton
        small
        tone="plain"
        label="End draining"
        about={node.id}
        title={`Give ${node.id} requests again?`}
        consequences={[`${node.id} gets new requests at once. Drain it again to end that.`]}
        confirm="End the draining"
        act={change('DELETE')}
        done={`${node.id} gets requests again.`}
      />
    )
  if (!node.alive || node.draining) return null
  return (
    <ConfirmButton
      small
      label="Drain"
      about={node.id}
      title={`Drain ${node.id}?`}
      consequences={drainConsequences(node, nodes)}
      confirm={`Drain ${node.id}`}
      act={change('PUT')}
      done={`${node.id} drains.`}
    />
  )
}

const PROBE_COLUMNS: readonly Column<ProbeEntry>[] = [
  { key: 'node', title: 'Node', phone: 'first', value: ({ node }) => node },
  {
    key: 'verdict',
    title: 'Verdict',
    phone: 'first',
    value: ({ matches, expected }) => (matches ? (expected === null ? 'alone' : 'agrees') : 'differs'),
    cell: ({ matches, expected }) => (
      <Status tone={matches ? (expected === null ? 'quiet' : 'good') : 'harm'}>
        {matches ? (expected === null ? 'no other to compare with' : 'agrees') : 'differs'}
      </Status>
    ),
  },
  {
    key: 'mask',
    title: 'Mask',
    align: 'end',
    value: ({ mask_version: version }) => version,
    cell: ({ mask_version: version }) => <MaskLink version={version} />,
  },
  {
    key: 'nll',
    title: 'Loss, nats a token',
    align: 'end',
    hint: 'Mean over the probe texts.',
    value: ({ nll }) => nll,
    cell: ({ nll }) => <Num title={`${nll} nats a token`}>{nll.toFixed(4)}</Num>,
  },
  {
    key: 'expected',
    title: 'Others',
    align: 'end',
    hint: 'What the nodes with this mask agree on.',
    value: ({ expected }) => expected,
    cell: ({ expected }) => <Num>{expected === null ? '–' : expected.toFixed(4)}</Num>,
  },
  {
    key: 'measured',
    title: 'Measured',
    align: 'end',
    value: ({ measured_at: at }) => at,
    cell: ({ measured_at: at }) => <Time at={at} />,
  },
]

function NoNodes() {
  return (
    <Empty title="There is no node.">
      <p>Start one on a machine that has the model:</p>
      <Code label="Command" text="npm run node" />
    </Empty>
  )
}

import type { Deps } from '../../contracts/bindings.ts'
import type { DescribedText } from '../../contracts/reservoir-object.ts'
import {
  listProposals,
  replaceProposals,
  type ProposalRow,
} from '../../storage/db/queries/discovery-queries.ts'
import { listDomains } from '../../storage/db/queries/domain-queries.ts'
import type { ModelRow } from '../../storage/db/queries/model-queries.ts'
import { UNASSIGNED } from '../../storage/db/schema/domains.ts'
import { clusterTexts, type TextCluster } from '../discovery/cluster-texts.ts'
import { isKnownKind } from '../discovery/known-kind.ts'
import { loadClassifier } from './classifier-store.ts'
import { describeStored, type DescribeBudget } from './describe-stored.ts'

/** Texts that are clustered: a fixed random choice of those that wait. */
export const MAX_CLUSTERED = 512
/** Texts from which on they are clustered. */
const MIN_TEXTS = 24
/** Tokens of a text, as it was described, from which on it is clustered: shorter ones are not told apart. */
const MIN_TOKENS = 60
/** They are clustered again when there are this many new ones, and this share of those before. */
const MIN_NEW_TEXTS = 12
const MIN_NEW_SHARE = 0.2

/** The mark of texts that the last clustering put into no cluster, or left out because they are short. */
export const NO_PROPOSAL = ''

type ProposeDeps = Pick<
  Deps,
  'db' | 'artifacts' | 'reservoir' | 'fleet' | 'nodeSecrets' | 'nodeFetch' | 'nowMs'
>

/**
 * Clusters the texts that fit into no domain, once there are enough of them and many new ones since the last time, and stores
 * a proposal for each cluster that is of no kind that the classifier knows.
 * A cluster that has most texts of an earlier proposal keeps that one's id.
 */
export async function proposeDomains(
  deps: ProposeDeps,
  model: ModelRow,
  budget: DescribeBudget,
  bases: readonly string[],
): Promise<void> {
  const { db, nowMs } = deps
  const staging = deps.reservoir(UNASSIGNED)
  const request = { domain: UNASSIGNED, want: MAX_CLUSTERED, heldOut: true }
  const ready = await describeStored(deps, model, request, budget, bases)
  if (ready < MIN_TEXTS) return
  // A part of the texts may look like one kind where all of them are several.
  const next = { baseSha256: model.baseSha256, want: MAX_CLUSTERED, limit: 1, heldOut: true }
  const { texts: undescribed } = await staging.textsToDescribe(next)
  if (undescribed.length > 0) return
  const fresh = await staging.countUngrouped(model.baseSha256, MAX_CLUSTERED)
  if (fresh < Math.max(MIN_NEW_TEXTS, MIN_NEW_SHARE * (ready - fresh))) return
  const [described, open, domains] = await Promise.all([
    staging.listDescribed(model.baseSha256, MAX_CLUSTERED),
    listProposals(db, { model: model.id, state: 'proposed' }),
    listDomains(db),
  ])
  const texts = described.filter(({ embedding, tokens }) => embedding.length > 0 && tokens >= MIN_TOKENS)
  const stored = await loadClassifier(deps, model)
  const found = clusterTexts(
    texts,
    domains.map(({ name }) => name),
  )
  const clusters = found.filter(
    ({ members }) =>
      !stored ||
      !isKnownKind(
        stored.classifier,
        members.flatMap((index) => texts[index] ?? []),
      ),
  )
  const rows = matchProposals(model.id, clusters, texts, { open, nowMs: nowMs() })
  await replaceProposals(db, model.id, rows)
  const proposals = rows.map(({ id }, index): [string, string[]] => {
    const members = clusters[index]?.members ?? []
    return [id, members.flatMap((member) => texts[member]?.hash ?? [])]
  })
  const inCluster = new Set(proposals.flatMap(([, hashes]) => hashes))
  const others = described.flatMap(({ hash }) => (inCluster.has(hash) ? [] : hash))
  await staging.propose(model.baseSha256, { [NO_PROPOSAL]: others, ...Object.fromEntries(proposals) })
}

/** Makes a proposal of each cluster, with the id of the open one that most of the same texts had. */
function matchProposals(
  model: string,
  clusters: readonly TextCluster[],
  texts: readonly DescribedText[],
  { open, nowMs }: { open: readonly ProposalRow[]; nowMs: number },
): ProposalRow[] {
  const free = new Map(open.map((row) => [row.id, row]))
  return clusters.map(({ members, name, terms }) => {
    const own = members.flatMap((index) => texts[index] ?? [])
    const before = mostFrequent(
      own.flatMap(({ proposal }) => (proposal && free.has(proposal) ? proposal : [])),
    )
    const known = before === undefined ? undefined : free.get(before)
    if (known) free.delete(known.id)
    return {
      id: known?.id ?? `found_${crypto.randomUUID().replaceAll('-', '').slice(0, 12)}`,
      model,
      name,
      terms,
      texts: own.length,
      characters: own.reduce((sum, { characters }) => sum + characters, 0),
      centroid: centroidOf(own),
      state: 'proposed',
      domain: null,
      createdAt: known?.createdAt ?? nowMs,
      updatedAt: nowMs,
    }
  })
}

function mostFrequent(names: readonly string[]): string | undefined {
  const [most] = [...Map.groupBy(names, (name) => name)].toSorted(([, a], [, b]) => b.length - a.length)
  return most?.[0]
}

function centroidOf(texts: readonly DescribedText[]): number[] {
  const size = texts[0]?.embedding.length ?? 0
  return Array.from(
    { length: size },
    (_, d) => texts.reduce((sum, { embedding }) => sum + (embedding[d] ?? 0), 0) / texts.length,
  )
}

import { validate } from '@copal/shared/wire/validate.ts'
import { sampleMessage } from '@copal/shared/wire/sample-message.ts'
import { admitDomain, findOwners } from '../../storage/db/queries/domain-queries.ts'
import type { Deps } from '../../contracts/bindings.ts'
import type { OfferedSample } from '../../contracts/reservoir-object.ts'
import { findConsents, findTenantsOfKeys, type KeyConsent } from '../../storage/db/queries/key-queries.ts'
import { addMetricCounts } from '../../storage/db/queries/metric-count-queries.ts'
import type { TombstoneRow } from '../../storage/db/queries/tombstone-queries.ts'
import { findTombstones, isDeleted } from '../sampling/tombstones.ts'
import { SAMPLE_QUEUE } from '../sampling/sample-queue.ts'
import { UNASSIGNED } from '../../storage/db/schema/domains.ts'
import { storeFoundDomains } from './store-found-domains.ts'
import { redactQueued, type StorableSample } from './redact-queued.ts'
import { sortSamples } from './sort-samples.ts'
import { createSampleCounts, type SampleCounts } from './sample-counts.ts'

/** Domains in all up to which samples of no known tenant create one: each costs storage, and evaluations of updates. */
const MAX_DOMAINS = 256
/** Domains that the samples of one tenant create at most. There is no maximum of all tenants that some could use up. */
const MAX_DOMAINS_PER_TENANT = 32
const DOMAIN_LIMITS = { maxDomains: MAX_DOMAINS, maxPerTenant: MAX_DOMAINS_PER_TENANT }
/** A sample with the message that carries it, the domain that it goes to, and what was found of its text. */
interface QueuedSample {
  message: Message
  sample: StorableSample
  domain: string
  extra: Pick<OfferedSample, 'nllMean' | 'description' | 'found'>
}

type ConsumerDeps = Parameters<typeof sortSamples>[0] & Pick<Deps, 'reservoir' | 'recogniser' | 'keyPepper'>

/** Delays between retries. With the queue's maximum retries they bridge an outage of an hour. */
const MIN_RETRY_DELAY_S = 5
const MAX_RETRY_DELAY_S = 600

/**
 * Offers queued samples, which were redacted before they were queued, to the reservoirs of their domains, which are found
 * first where neither request nor key names them. Samples that older rules redacted are redacted again before.
 *
 * Messages may arrive twice and in any order: a reservoir remembers the texts that it was offered. A message that is
 * not a sample is dropped with a line in the log, and so are samples that were deleted after they were queued, however late
 * they arrive, those of keys whose policy has changed since, and those of other tenants than the owner of their domain. If a reservoir cannot be reached, its messages are retried. Samples that would create a domain beyond the
 * maximum number are dropped, with one line in the log for each batch of messages.
 */
export async function consumeSamples(deps: ConsumerDeps, batch: MessageBatch): Promise<void> {
  const queued = readMessages(batch)
  if (queued.length === 0) return
  const samples = await findDomains(deps, await redactAgain(deps, queued))
  if (samples.length === 0) return
  const context = readContext(deps, samples)
  const counts = createSampleCounts()
  const byDomain = [...Map.groupBy(samples, ({ domain }) => domain)]
  await Promise.all(
    byDomain.map(async ([domain, group]) => {
      try {
        await storeGroup(deps, domain, group, await context, counts)
        for (const { message } of group) message.ack()
      } catch (error) {
        retryGroup(batch, domain, group, error, counts)
      }
    }),
  )
  // Metrics are worth no second attempt: the messages are acknowledged.
  await addMetricCounts(deps.db, counts.list()).catch((error: unknown) =>
    console.warn('The samples are missing in the metrics:', error),
  )
  logDropped(counts)
}

/** Reads the samples of messages. Others are dropped. */
function readMessages({ messages, queue }: MessageBatch): QueuedSample[] {
  return messages.flatMap((message) => {
    try {
      const sample = validate(sampleMessage, message.body)
      return { message, sample, domain: sample.domain, extra: {} }
    } catch (error) {
      console.warn(`Dropped message ${message.id} of queue ${queue}, which is not a sample:`, String(error))
      message.ack()
      return []
    }
  })
}

/** Offers the samples of one domain to its reservoir, apart from those that may not be stored any more. */
async function storeGroup(
  deps: ConsumerDeps,
  domain: string,
  group: readonly QueuedSample[],
  context: StoreContext,
  counts: SampleCounts,
): Promise<void> {
  const { tombstones, tenants, owners, consents } = context
  const owner = owners.get(domain) ?? null
  const kept = withoutDeleted(
    group.map((one) => toOffer(one, tenants)),
    domain,
    tombstones,
  )
  const allowed = kept.filter((offer) => isConsented(offer, consents.get(offer.keyId)))
  const offers = allowed.filter(({ tenant }) => owner === null || tenant === owner)
  const admitted = await admitOffers(deps, domain, offers, context)
  if (admitted) {
    if (admitted.length > 0) await deps.reservoir(domain).offer(admitted)
    counts.decided(domain, 'offered', admitted.length)
    counts.redacted(group.map(({ sample }) => sample))
  } else counts.decided(domain, 'no_domain', offers.length)
  const lateDeleted = admitted ? offers.length - admitted.length : 0
  counts.decided(domain, 'deleted', group.length - kept.length + lateDeleted)
  counts.decided(domain, 'withdrawn', kept.length - allowed.length)
  counts.decided(domain, 'foreign', allowed.length - offers.length)
}

/**
 * Returns those of some offers that may go to a domain, which is created for them unless it is known. Undefined if it may not be
 * created.
 */
async function admitOffers(
  deps: ConsumerDeps,
  domain: string,
  offers: readonly OfferedSample[],
  { owners, oldestMs }: StoreContext,
): Promise<readonly OfferedSample[] | undefined> {
  // A known domain may have been deleted since; its reservoir ignores samples from before that.
  if (offers.length === 0 || domain === UNASSIGNED || owners.has(domain)) return offers
  const keyIds = [...new Set(offers.map(({ keyId }) => keyId))]
  if (!(await admitDomain(deps.db, domain, keyIds, deps.nowMs(), DOMAIN_LIMITS))) return undefined
  // A deletion in all domains misses this reservoir if it listed the domains before this one was registered.
  return withoutDeleted(offers, domain, await findTombstones(deps, oldestMs))
}

function withoutDeleted(
  offers: readonly OfferedSample[],
  domain: string,
  deletions: readonly TombstoneRow[],
): OfferedSample[] {
  return offers.filter((offer) => !isDeleted(deletions, domain, offer, offer.atMs))
}

/** Retries the messages of a domain whose samples could not be stored. After the last attempt the queue moves them. */
function retryGroup(
  { queue }: MessageBatch,
  domain: string,
  group: readonly QueuedSample[],
  error: unknown,
  counts: SampleCounts,
): void {
  const dead = queue === SAMPLE_QUEUE.queue ? group.filter(isLastAttempt).length : 0
  const retried = group.length - dead
  counts.decided(domain, 'retried', retried)
  counts.decided(domain, 'dead', dead)
  if (retried > 0) console.error(`${retried} samples of domain '${domain}' will be retried:`, error)
  if (dead > 0) {
    console.error(
      `${dead} samples of domain '${domain}' could not be stored for an hour and were moved to the queue ` +
        `'${SAMPLE_QUEUE.deadLetters}', which keeps them for four days:`,
      error,
    )
  }
  for (const { message } of group) message.retry({ delaySeconds: retryDelayS(message.attempts) })
}

/** Logs how many samples of a batch were dropped, and why. */
function logDropped(counts: SampleCounts): void {
  const log = (samples: number, why: string) => {
    if (samples > 0) console.warn(`Dropped ${samples} samples ${why}`)
  }
  log(counts.total('deleted'), 'that were deleted after they had been queued.')
  log(counts.total('withdrawn'), 'of keys whose sampling policy has changed since.')
  log(counts.total('foreign'), 'whose domain belongs to another tenant.')
  log(
    counts.total('no_domain'),
    `of the new domains ${counts.domainsOf('no_domain').join(', ')}: the samples of their ` +
      `tenants have created ${MAX_DOMAINS_PER_TENANT} domains already, or name no known tenant while there are ${MAX_DOMAINS} domains. Delete domains ` +
      "that are not needed with 'DELETE /admin/domains/:domain', or import a text to create a domain.",
  )
}

/** Redacts the samples as they may be stored. While the recogniser fails, all are retried later. */
async function redactAgain(deps: ConsumerDeps, queued: readonly QueuedSample[]): Promise<QueuedSample[]> {
  try {
    return await redactQueued(deps, queued)
  } catch (error) {
    console.error(
      `${queued.length} samples are not stored, because the recogniser has not read them. They are tried again for an ` +
        `hour, then moved to the queue '${SAMPLE_QUEUE.deadLetters}':`,
      String(error),
    )
    for (const { message } of queued) message.retry({ delaySeconds: retryDelayS(message.attempts) })
    return []
  }
}

/** Finds the domains of the samples that name none. Those that need a node while there is none are retried later. */
async function findDomains(deps: ConsumerDeps, queued: readonly QueuedSample[]): Promise<QueuedSample[]> {
  const unsorted = queued.filter(({ sample }) => sample.discover)
  if (unsorted.length === 0) return [...queued]
  const known = queued.filter(({ sample }) => !sample.discover)
  let reason: unknown
  const sorted = await sortSamples(
    deps,
    unsorted.map(({ sample, message }) => ({ sample, isLastAttempt: isLastAttempt({ message }) })),
  ).catch((error: unknown) => unsorted.map(() => ({ retry: error })))
  const results = await storeFoundDomains(deps, unsorted, sorted)
  const found = unsorted.flatMap((one, index) => {
    const result = results[index]
    if (result && 'domain' in result) return { ...one, ...result }
    reason = result?.retry
    one.message.retry({ delaySeconds: retryDelayS(one.message.attempts) })
    return []
  })
  if (found.length < unsorted.length)
    console.warn(
      `The domains of ${unsorted.length - found.length} samples will be found later:`,
      String(reason),
    )
  return [...known, ...found]
}

/** Returns whether the queue will move the message to the dead-letter queue instead of retrying it. */
function isLastAttempt({ message }: { message: Message }): boolean {
  return message.attempts > SAMPLE_QUEUE.retries
}

/** Returns the seconds until the next retry, twice as many after each attempt. */
function retryDelayS(attempts: number): number {
  return Math.min(MIN_RETRY_DELAY_S * 2 ** (attempts - 1), MAX_RETRY_DELAY_S)
}

/** The facts by which samples are stored or not. */
interface StoreContext {
  /** The deletions that may concern them. */
  tombstones: TombstoneRow[]
  /** The tenants of keys, where samples do not name them. */
  tenants: ReadonlyMap<string, string>
  /** The consent of the keys now. */
  consents: ReadonlyMap<string, KeyConsent>
  /** The owners of the registered domains among theirs; null: all share it. */
  owners: ReadonlyMap<string, string | null>
  /** When the oldest sample was queued. */
  oldestMs: number
}

async function readContext(
  { db }: Pick<Deps, 'db'>,
  samples: readonly QueuedSample[],
): Promise<StoreContext> {
  const oldestMs = Math.min(...samples.map(({ message }) => message.timestamp.getTime()))
  const keyIds = samples.flatMap(({ sample }) => (sample.tenant === undefined ? sample.keyId : []))
  const [tenants, consents, owners] = await Promise.all([
    keyIds.length > 0 ? findTenantsOfKeys(db, keyIds) : new Map<string, string>(),
    findConsents(db, [...new Set(samples.map(({ sample }) => sample.keyId))]),
    findOwners(db, [...new Set(samples.map(({ domain }) => domain))]),
  ])
  // After the owners: a deletion that listed the domains before one of them was registered is found then.
  const tombstones = await findTombstones({ db }, oldestMs)
  return { tombstones, tenants, consents, owners, oldestMs }
}

/**
 * Returns whether a sample may still be stored. An isolate samples under the old policy of a key for half a minute after it has
 * changed; which requests would be sampled under the new one is not known here. Samples of older gateways name no version.
 */
function isConsented(
  { consentVersion }: Pick<OfferedSample, 'consentVersion'>,
  consent: KeyConsent | undefined,
): boolean {
  if (!consent) return true
  if (consent.policies.includes('never')) return false
  return consentVersion === 0 || consentVersion >= consent.version
}

function toOffer(
  { message, sample, extra }: QueuedSample,
  tenants: ReadonlyMap<string, string>,
): OfferedSample {
  const { requestId, keyId, tenant, conversation = '', consentVersion = 0, side, text } = sample
  const { opening, earlierOpening } = sample
  return {
    requestId,
    keyId,
    tenant: tenant ?? tenants.get(keyId) ?? '',
    conversation,
    consentVersion,
    side,
    opening,
    earlierOpening,
    text,
    atMs: message.timestamp.getTime(),
    ...extra,
  }
}

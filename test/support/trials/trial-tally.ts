import { PRESETS } from '@copal/shared/wire/admin-policy.ts'
import type { UnitSums } from '../../../gateway/src/adaptation/trials/confidence-sequence.ts'
import { ConversationSums } from '../../../gateway/src/adaptation/trials/conversation-sums.ts'
import {
  NO_VALUES,
  toUnit,
  trialLimits,
  type GapSums,
  type TrialLimits,
  type TrialSide,
  type TrialSums,
} from '../../../gateway/src/adaptation/trials/trial-judge.ts'

/** A request that was scored under both masks. */
export interface ScoredRequest {
  conversation: string | number
  domain: string
  tokens: number
  /** Nats a token. */
  gap: number
}

/** A request that one of the masks answered, or failed to answer. */
export interface AnsweredRequest {
  side: TrialSide
  conversation: string | number
  failed: boolean
  /** Null where it has none. */
  firstTokenMs: number | null
  tokenMs: number | null
}

/** Sums requests as the database does, one by one. What is slow is decided by the mean under the reference until then. */
export class TrialTally {
  readonly #limits: TrialLimits
  readonly #all: Gaps
  readonly #domains = new Map<string, Gaps>()
  readonly #failed = bySide()
  readonly #slowFirst = new SlowTimes(200)
  readonly #slowTokens = new SlowTimes(50)

  /** @param limits those by which the sums are judged */
  constructor(limits = trialLimits(PRESETS.production, 1)) {
    this.#limits = limits
    this.#all = new Gaps(null, limits.maxGap)
  }

  addScore({ conversation, domain, tokens, gap }: ScoredRequest): void {
    const own = this.#domains.get(domain) ?? new Gaps(domain, this.#limits.maxDomainGap)
    this.#domains.set(domain, own)
    for (const gaps of [this.#all, own]) gaps.add(conversation, tokens, gap)
  }

  addRequest({ side, conversation, failed, firstTokenMs, tokenMs }: AnsweredRequest): void {
    this.#failed[side].add(conversation, failed ? 1 : 0)
    if (firstTokenMs !== null) this.#slowFirst.add(side, conversation, firstTokenMs)
    if (tokenMs !== null) this.#slowTokens.add(side, conversation, tokenMs)
  }

  sums(): TrialSums {
    const attemptsOf = (side: TrialSide) => ({
      failed: this.#failed[side].sums(),
      slowFirstToken: this.#slowFirst.sums(side),
      slowTokens: this.#slowTokens.sums(side),
    })
    return {
      all: this.#all.sums(),
      domains: [...this.#domains.values()].map((gaps) => gaps.sums()),
      attempts: { judged: attemptsOf('judged'), reference: attemptsOf('reference') },
    }
  }
}

class Gaps {
  readonly #domain: string | null
  readonly #limit: number
  readonly #conversations = new ConversationSums()
  #requests = 0
  #tokens = 0

  constructor(domain: string | null, limit: number) {
    this.#domain = domain
    this.#limit = limit
  }

  add(conversation: string | number, tokens: number, gap: number): void {
    this.#conversations.add(conversation, toUnit(gap, this.#limit))
    this.#requests += 1
    this.#tokens += tokens
  }

  sums(): GapSums {
    const sums = this.#conversations.sums()
    return { ...sums, domain: this.#domain, requests: this.#requests, tokens: this.#tokens }
  }
}

class SlowTimes {
  readonly #leastMs: number
  readonly #slow = bySide()
  #count = 0
  #sumMs = 0

  constructor(leastMs: number) {
    this.#leastMs = leastMs
  }

  add(side: TrialSide, conversation: string | number, ms: number): void {
    const isKnown = this.#count >= 20
    if (isKnown) {
      const slowMs = Math.max(this.#leastMs, (2 * this.#sumMs) / this.#count)
      this.#slow[side].add(conversation, ms > slowMs ? 1 : 0)
    }
    if (side === 'judged') return
    this.#count += 1
    this.#sumMs += ms
  }

  sums(side: TrialSide): UnitSums {
    return this.#count >= 20 ? this.#slow[side].sums() : NO_VALUES
  }
}

function bySide(): Record<TrialSide, ConversationSums> {
  return { judged: new ConversationSums(), reference: new ConversationSums() }
}

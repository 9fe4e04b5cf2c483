import { listNames } from '@copal/shared/phrases.ts'
import { UNJUDGED_FIGURES } from '@copal/shared/wire/unjudged-figures.ts'
import { listDomains } from '../../storage/db/queries/domain-queries.ts'
import { listHoldouts } from '../../storage/db/queries/holdout-queries.ts'
import { findJob, type JobRow } from '../../storage/db/queries/job-queries.ts'
import { listReservoirCounts } from '../../storage/db/queries/reservoir-count-queries.ts'
import { GENERAL_HOLDOUT } from '../../storage/db/schema/domains.ts'
import { readTogether } from '../../storage/db/read-together.ts'
import { figure } from '../gate/gate-figures.ts'
import type { GateVerdict } from '../gate/gate-verdict.ts'
import { ampleHoldoutTokens, estimateTokens } from '../holdouts/holdout-rules.ts'
import { holdoutsOf } from './gate-jobs.ts'
import { evaluateJobId } from './update-jobs.ts'
import type { StepDeps } from './update-step.ts'

/** Domains that a figure names at most. */
const MAX_NAMED = 32
/** Domains that the sentence of a verdict names at most. */
const MAX_IN_SENTENCE = 4

/** A domain without a holdout, and its estimated tokens of held-out text; undefined while they are not counted. */
interface WaitingDomain {
  name: string
  tokens: number | undefined
}

/** The domains that a gate did not judge a mask on. */
export interface UnjudgedDomains {
  /** They have a holdout, and the policy allows fewer. */
  leftOut: readonly string[]
  /** They have no holdout yet. */
  waiting: readonly WaitingDomain[]
  /** The tokens of held-out text that a first holdout takes. */
  neededTokens: number
}

/**
 * Finds the domains that an evaluation of a mask did not have a holdout of, as of the update's first candidate. It asks no
 * reservoir, since one that does not answer must not keep the gate from its decision.
 */
export async function findUnjudged(
  deps: Pick<StepDeps, 'db'>,
  evaluation: Pick<JobRow, 'id' | 'updateId' | 'createdAt' | 'payload'>,
  windowTokens: number,
): Promise<UnjudgedDomains> {
  const evaluated = new Set(holdoutsOf(evaluation).map(({ domain }) => domain))
  const firstId = evaluateJobId({ id: evaluation.updateId, candidate: 1 })
  const first = evaluation.id === firstId ? evaluation : await findJob(deps.db, firstId)
  const untilMs = first?.createdAt ?? evaluation.createdAt
  const [domains, holdouts, counts] = await readTogether(deps.db, (db) => [
    listDomains(db),
    listHoldouts(db),
    listReservoirCounts(db),
  ])
  const known = new Set(holdouts.filter(({ createdAt }) => createdAt <= untilMs).map(({ domain }) => domain))
  known.delete(GENERAL_HOLDOUT)
  const names = domains
    .filter(({ name, createdAt }) => createdAt <= untilMs && !known.has(name) && !evaluated.has(name))
    .map(({ name }) => name)
  return {
    leftOut: [...known].filter((name) => !evaluated.has(name)).sort(),
    waiting: names.map((name) => {
      const counted = counts.get(name)
      return { name, tokens: counted && estimateTokens(counted.holdoutCharacters) }
    }),
    neededTokens: ampleHoldoutTokens(windowTokens),
  }
}

/** Adds to a verdict which domains it says nothing about, and why. A pure function. */
export function withUnjudged(verdict: GateVerdict, domains: UnjudgedDomains): GateVerdict {
  const { leftOut, waiting, neededTokens } = domains
  const names = [...leftOut, ...waiting.map(({ name }) => name)]
  if (names.length === 0) return verdict
  const subject = names.length === 1 ? 'One domain was' : `${names.length} domains were`
  const figures = [
    unjudgedFigure(UNJUDGED_FIGURES.leftOut, leftOut, 'not evaluated, because of effort.max_holdouts'),
    unjudgedFigure(
      UNJUDGED_FIGURES.noHoldout,
      waiting.map(({ name, tokens }) => `${name} (${describeTokens(tokens, neededTokens)})`),
      `not evaluated, because they have no holdout yet, which takes about ${neededTokens} held-out tokens`,
    ),
  ]
  return {
    ...verdict,
    reason: `${verdict.reason} ${subject} not evaluated: ${listNames(names, MAX_IN_SENTENCE)}.`,
    figures: [...verdict.figures, ...figures.flat()],
  }
}

function unjudgedFigure(name: string, domains: readonly string[], why: string) {
  if (domains.length === 0) return []
  const note = `${why}: ${listNames(domains, MAX_NAMED)}`
  return [figure(name, true, { value: domains.length, note })]
}

function describeTokens(tokens: number | undefined, needed: number): string {
  if (tokens === undefined) return 'not counted'
  if (tokens >= needed) return 'has enough now'
  return tokens === 0 ? 'has none' : `has about ${tokens}`
}

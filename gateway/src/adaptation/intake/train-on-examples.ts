import { AppError } from '@copal/shared/errors.ts'
import type { Deps } from '../../contracts/bindings.ts'
import type { ModelRow } from '../../storage/db/queries/model-queries.ts'
import type { Background, LabelledText } from '../discovery/classifier.ts'
import { maxDomains } from '../discovery/classifier-codec.ts'
import { MAX_EXAMPLES, trainClassifier } from '../discovery/train-classifier.ts'
import { EXAMPLES } from '../sampling/reservoir-descriptions.ts'
import { backgroundVersion, loadBackground } from './background-store.ts'
import { loadClassifier, storeClassifier } from './classifier-store.ts'
import { countExamples, MIN_EXAMPLES } from './count-examples.ts'
import type { DescribeBudget } from './describe-stored.ts'

/** Calls that storing a classifier takes: its claim, its file, its version, and the files of older ones. */
const STORE_CALLS = 7
/** A classifier is trained anew when it could learn from this many times as many examples. */
const GROWTH = 1.5

type TrainDeps = Pick<
  Deps,
  'calls' | 'db' | 'artifacts' | 'reservoir' | 'fleet' | 'nodeSecrets' | 'nodeFetch' | 'nowMs'
>

/**
 * Trains the classifier of a model on examples of the domains, if the domains with enough examples are others than those
 * that it knows, if there are many more examples, or if it belongs to other weights or to another background. Of more domains
 * than a classifier can have, it learns the oldest. Has missing examples described, and then the background, as far as the budget
 * goes; until all of the background is, it is trained without.
 *
 * @returns whether it was trained
 */
export async function trainOnExamples(
  deps: TrainDeps,
  model: ModelRow,
  budget: DescribeBudget,
  bases: readonly string[],
): Promise<boolean> {
  const domains = await countExamples(deps, model, budget, bases)
  const [first] = domains
  // Of one domain nothing can be told apart.
  if (!first || domains.length < 2) return false
  const size = await embeddingSize(deps, model, first.name)
  const oldest = domains.toSorted((a, b) => a.createdAt - b.createdAt).slice(0, maxDomains(size))
  const counts = new Map(oldest.map(({ name, count }) => [name, count]))
  const stored = await loadClassifier(deps, model)
  const total = [...counts.values()].reduce((sum, count) => sum + count, 0)
  const known = stored?.row.domains.join('\n')
  const isCurrent =
    stored && known === [...counts.keys()].sort().join('\n') && total < GROWTH * stored.row.texts
  if (isCurrent && stored.classifier.background?.version === (await backgroundVersion())) return false
  const background = await findBackground(deps, model, budget, bases)
  if (isCurrent && background?.texts[0]?.embedding.length !== size) return false
  const perDomain = Math.max(MIN_EXAMPLES, Math.floor(MAX_EXAMPLES / counts.size))
  // Until the turn of this task, in which they are enough.
  if (deps.calls.left < counts.size + STORE_CALLS) return false
  const examples: LabelledText[] = []
  for (const domain of counts.keys()) {
    const described = await deps
      .reservoir(domain)
      .listDescribed(model.baseSha256, Math.min(EXAMPLES, perDomain))
    const usable = described.filter(({ embedding }) => embedding.length > 0)
    examples.push(...usable.map(({ text, embedding }) => ({ text, embedding, domain })))
  }
  const classifier = trainClassifier(examples, background)
  await storeClassifier(deps, model, classifier, total)
  return true
}

/** Returns the background; undefined while it is not described, also because no node does. */
async function findBackground(
  ...[deps, model, budget, bases]: Parameters<typeof loadBackground>
): Promise<Background | undefined> {
  try {
    return await loadBackground(deps, model, budget, bases)
  } catch (error) {
    if (!(error instanceof AppError)) throw error
    if (!error.retryable)
      console.error(`Model '${model.id}' could not describe the background; the next run tries again:`, error)
    return undefined
  }
}

/** Returns the dimensions of the embeddings of a domain's texts; 0 if they have none. */
async function embeddingSize(deps: TrainDeps, { baseSha256 }: ModelRow, domain: string): Promise<number> {
  const described = await deps.reservoir(domain).listDescribed(baseSha256, MIN_EXAMPLES)
  return Math.max(0, ...described.map(({ embedding }) => embedding.length))
}

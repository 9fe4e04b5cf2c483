import { AppError } from '@copal/shared/errors.ts'
import { sampleSequences, type TokenSequences } from '@copal/gpu-node/pruning/calibration/token-sequences.ts'
import type { DenseModel } from '@copal/gpu-node/model/master/dense-model.ts'
import type { Draw } from '@copal/gpu-node/pruning/statistics/statistics-artifact.ts'
import type { DomainSpec } from './domain-spec.ts'
import { cutEvaluationWindows, type EvaluationWindows } from './evaluation-windows.ts'
import { overlapShare } from './text-overlap.ts'
import { readTextInput, type TextInput } from './text-input.ts'

/** How the laboratory draws calibration sequences. */
export const LAB_DRAW: Draw = 'shuffled'

/** Options of {@link prepareDomains}. */
export interface PrepareOptions {
  /** Numbers of calibration sequences per domain; each number is drawn separately. */
  samples: readonly number[]
  /** Tokens per calibration sequence. */
  length: number
  seed: number
  windowTokens: number
  maxWindows: number
  /** Text field of newline-delimited JSON. */
  field: string
  /** Base of relative paths. */
  cwd: string
}

/** A domain's texts as tokens. */
export interface PreparedDomain {
  name: string
  calibration: { path: string; sha256: string; sequences: ReadonlyMap<number, TokenSequences> } | null
  evaluation: { path: string; sha256: string; cut: EvaluationWindows }
}

/** All domains, and warnings about their texts. */
export interface PreparedDomains {
  domains: PreparedDomain[]
  warnings: string[]
}

/** Longer texts are split into parts from which the seed draws; encoding all of a long text would take minutes. */
const PART_CHARACTERS = 4_000_000
/** Overlaps below this share are attributed to chance. */
const MIN_REPORTED_OVERLAP = 0.005

/**
 * Reads, checks and encodes the texts of all domains.
 *
 * @throws AppError naming the unreadable file, or the domain with too little text and its number of tokens
 */
export async function prepareDomains(
  model: Pick<DenseModel, 'codec' | 'config' | 'layerSensitivity' | 'rowSensitivity'>,
  specs: readonly DomainSpec[],
  options: PrepareOptions,
  onDomain: (name: string) => void,
): Promise<PreparedDomains> {
  const { field, cwd } = options
  const inputs = []
  // Reads all files before encoding the first, so that a bad file fails early.
  for (const spec of specs) {
    const { calibrationPath, evaluationPath } = spec
    const calibration = calibrationPath === null ? null : await readTextInput(calibrationPath, field, cwd)
    inputs.push({ spec, calibration, evaluation: await readTextInput(evaluationPath, field, cwd) })
  }
  const domains: PreparedDomain[] = []
  for (const { spec, calibration, evaluation } of inputs) {
    const { name, calibrationPath, evaluationPath } = spec
    onDomain(name)
    domains.push(
      withDomainInErrors(name, () => ({
        name,
        calibration:
          calibration && calibrationPath !== null
            ? {
                path: calibrationPath,
                sha256: calibration.sha256,
                sequences: drawSequences(model, calibration, options),
              }
            : null,
        evaluation: {
          path: evaluationPath,
          sha256: evaluation.sha256,
          cut: cutEvaluationWindows(evaluation.texts, model.codec, options.windowTokens, options.maxWindows),
        },
      })),
    )
  }
  return { domains, warnings: [...overlapWarnings(domains), ...sensitivityWarnings(domains, model)] }
}

function drawSequences(
  { codec, config }: Pick<DenseModel, 'codec' | 'config'>,
  { texts }: TextInput,
  { samples, length, seed }: PrepareOptions,
): Map<number, TokenSequences> {
  const [separator] = config.eosTokenIds
  const parts = texts.flatMap((text) => partsOf(text))
  return new Map(
    samples.map((count) => [
      count,
      sampleSequences(parts, codec, { samples: count, length, seed, draw: LAB_DRAW, separator, exact: true }),
    ]),
  )
}

/** Splits a text into parts, at the end of a line if possible. */
function partsOf(text: string): string[] {
  const parts: string[] = []
  let rest = text
  while (rest.length > PART_CHARACTERS) {
    const line = rest.lastIndexOf('\n', PART_CHARACTERS)
    const end = line > PART_CHARACTERS / 2 ? line + 1 : PART_CHARACTERS
    parts.push(rest.slice(0, end))
    rest = rest.slice(end)
  }
  return [...parts, rest]
}

function overlapWarnings(domains: readonly PreparedDomain[]): string[] {
  const warnings: string[] = []
  const calibratedOn = new Map<string, string>()
  for (const { name, calibration } of domains) {
    if (!calibration) continue
    const twin = calibratedOn.get(calibration.sha256)
    if (twin !== undefined) {
      warnings.push(`'${name}' and '${twin}' have the same calibration text, which counts only once.`)
    }
    calibratedOn.set(calibration.sha256, name)
    const sequences = [...calibration.sequences.values()].map(({ tokens }) => tokens)
    for (const { name: other, evaluation } of domains) {
      const what = name === other ? `'${name}'` : `'${other}', against the calibration text of '${name}'`
      if (calibration.sha256 === evaluation.sha256) {
        warnings.push(
          `${what}: calibration and evaluation text are the same file, so its perplexity is not held out.`,
        )
        continue
      }
      const overlap = overlapShare(sequences, evaluation.cut.windows)
      if (overlap < MIN_REPORTED_OVERLAP) continue
      warnings.push(
        `${what}: ${(100 * overlap).toFixed(1)} % of the evaluation text is also in the calibration samples, ` +
          'so its perplexity is not held out.',
      )
    }
  }
  return warnings
}

/** Warns about evaluation text on which a sensitivity was measured: methods that read the sensitivity have seen it. */
function sensitivityWarnings(
  domains: readonly PreparedDomain[],
  { layerSensitivity, rowSensitivity }: Pick<DenseModel, 'layerSensitivity' | 'rowSensitivity'>,
): string[] {
  const measured = [
    { what: "the model's layer sensitivity", suffix: '+allocated', found: layerSensitivity },
    { what: "the model's row sensitivity", suffix: '+rows', found: rowSensitivity },
  ]
  return measured.flatMap(({ what, suffix, found }) =>
    domains
      .filter(({ evaluation }) => evaluation.sha256 === found?.text.sha256)
      .map(
        ({ name }) =>
          `'${name}': ${what} was measured on its evaluation text, so its perplexity under methods with ${suffix} is not held out.`,
      ),
  )
}

function withDomainInErrors<T>(name: string, prepare: () => T): T {
  try {
    return prepare()
  } catch (error) {
    if (!(error instanceof AppError)) throw error
    throw new AppError(error.code, `Domain '${name}': ${error.message}`, { cause: error })
  }
}

import { readFile, rename, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { UserError } from '@copal/gpu-node/platform/user-error.ts'
import { RESULTS_FORMAT_VERSION, labResultsSchema, type LabResults } from './lab-results.ts'
import { findSummaryError } from './summary.ts'

/** Name of the results file in its folder. */
const RESULTS_FILE = 'results.json'

/**
 * Reads the results from a folder or from a `results.json` file.
 *
 * @throws UserError `results_missing`, `results_malformed`, `results_version`
 */
export async function readResults(path: string): Promise<LabResults> {
  const file = await resultsPath(path)
  return parseResults(await readText(file), file)
}

/** Writes `<dir>/results.json` atomically. */
export async function writeResults(dir: string, results: LabResults): Promise<void> {
  const file = join(dir, RESULTS_FILE)
  await writeFile(`${file}.partial`, `${JSON.stringify(results)}\n`)
  await rename(`${file}.partial`, file)
}

async function resultsPath(path: string): Promise<string> {
  const info = await stat(path).catch((cause: unknown) => {
    throw new UserError(
      'results_missing',
      `${path} does not exist: expected a folder that 'npx copal lab run' wrote.`,
      {
        cause,
      },
    )
  })
  return info.isDirectory() ? join(path, RESULTS_FILE) : path
}

async function readText(file: string): Promise<string> {
  return readFile(file, 'utf8').catch((cause: NodeJS.ErrnoException) => {
    const fault = cause.code === 'ENOENT' ? 'does not exist' : 'cannot be read'
    throw new UserError(
      'results_missing',
      `${file} ${fault}: expected the result of a laboratory run, which 'npx copal lab run' writes.`,
      { cause },
    )
  })
}

/**
 * Parses the text of a `results.json`.
 *
 * @param source name of the file in messages
 * @throws UserError `results_malformed`, `results_version`, naming the place of the error
 */
export function parseResults(text: string, source: string): LabResults {
  const json = parseJson(text, source)
  const version = z.object({ format_version: z.unknown() }).safeParse(json).data?.format_version
  if (version !== undefined && version !== RESULTS_FORMAT_VERSION) {
    throw new UserError(
      'results_version',
      `${source} has format_version ${JSON.stringify(version)}; this copal reads ${RESULTS_FORMAT_VERSION}. Read it with the copal that wrote it, or run the laboratory again.`,
    )
  }
  const parsed = labResultsSchema.safeParse(json)
  const fault = parsed.success ? findInconsistency(parsed.data) : describeIssue(parsed.error.issues[0])
  if (parsed.success && fault === undefined) return parsed.data
  throw new UserError('results_malformed', `${source} is not a laboratory result: ${fault}.`)
}

function parseJson(text: string, source: string): unknown {
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw new UserError('results_malformed', `${source} is not JSON: it may have been cut off.`, { cause })
  }
}

function describeIssue(issue: z.core.$ZodIssue | undefined): string {
  if (issue === undefined) return 'it does not have the expected shape'
  return `${issue.path.length === 0 ? 'it' : issue.path.join('.')}: ${issue.message}`
}

/**
 * Returns the first inconsistency: a reference to an unknown domain, arrays whose lengths contradict, or a summary that
 * does not follow from its matrices; undefined if there is none.
 */
function findInconsistency({ domains, dense, runs }: LabResults): string | undefined {
  const windows = new Map(domains.map((domain) => [domain.name, domain.evaluation.windows]))
  const measured = [
    { where: 'dense', evaluations: dense },
    ...runs.flatMap(({ method, pattern, stages }, run) =>
      stages.map(({ evaluations }, stage) => ({
        where: `runs.${run}.stages.${stage} (${method} ${pattern})`,
        evaluations,
      })),
    ),
  ]
  for (const { where, evaluations } of measured) {
    for (const [domain, { windowNll }] of Object.entries(evaluations)) {
      const expected = windows.get(domain)
      if (expected === undefined) return `${where} evaluates ${domain}, which domains does not list`
      if (windowNll.length !== expected)
        return `${where} has ${windowNll.length} windows of ${domain}, expected ${expected}`
    }
  }
  for (const [run, { matrices }] of runs.entries()) {
    for (const [matrix, { order, R, churn }] of matrices.entries()) {
      const where = `runs.${run}.matrices.${matrix}`
      const stray = order.find((domain) => !windows.has(domain))
      if (stray !== undefined) return `${where} orders ${stray}, which domains does not list`
      if (R.length !== order.length || R.some((row) => row.length !== order.length))
        return `${where}.R is not ${order.length} by ${order.length}, as its order asks`
      if (churn.length !== order.length - 1)
        return `${where}.churn has ${churn.length} entries, expected ${order.length - 1}`
    }
  }
  for (const [run, { method, pattern, summary, matrices }] of runs.entries()) {
    const fault = findSummaryError(summary, matrices)
    if (fault !== undefined) return `runs.${run} (${method} ${pattern}): ${fault}`
  }
  return undefined
}

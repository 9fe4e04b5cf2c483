import { AppError } from '@copal/shared/errors.ts'
import { domainName } from '@copal/shared/wire/inference-fields.ts'

/** One domain as it is named on the command line; paths as they were given. */
export interface DomainSpec {
  name: string
  /** Null: evaluated, never calibrated on. */
  calibrationPath: string | null
  evaluationPath: string
}

const EXPECTED =
  'name=calibration.txt:evaluation.txt, or name=:evaluation.txt for a domain that is never calibrated on'

/**
 * Reads `name=calibration.txt:evaluation.txt` or `name=:evaluation.txt`; the colon of a Windows drive separates
 * nothing.
 *
 * @throws AppError `invalid_request`
 */
export function parseDomainSpec(text: string): DomainSpec {
  const equals = text.indexOf('=')
  if (equals < 0) throw domainSpecError(text, `expected ${EXPECTED}`)
  const name = text.slice(0, equals)
  const checked = domainName.safeParse(name)
  if (!checked.success)
    throw domainSpecError(text, checked.error.issues[0]?.message ?? 'the name is not allowed')
  const paths = text.slice(equals + 1)
  const colons = [...paths.matchAll(/:/g)].map(({ index }) => index).filter((at) => !isDrive(paths, at))
  const [colon] = colons
  if (colon === undefined)
    throw domainSpecError(text, `there is no ':' between two files; expected ${EXPECTED}`)
  if (colons.length > 1) throw domainSpecError(text, `a path may hold no ':'; expected ${EXPECTED}`)
  const evaluationPath = paths.slice(colon + 1)
  if (evaluationPath === '')
    throw domainSpecError(text, `the file to evaluate on is missing; expected ${EXPECTED}`)
  return { name, calibrationPath: paths.slice(0, colon) || null, evaluationPath }
}

/**
 * Checks that there are domains, each name once.
 *
 * @throws AppError `invalid_request`
 */
export function requireDistinctDomains(specs: readonly DomainSpec[]): void {
  const names = new Set<string>()
  for (const { name } of specs) {
    if (names.has(name)) {
      throw new AppError('invalid_request', `The domain '${name}' is given twice.`, { param: 'domain' })
    }
    names.add(name)
  }
  if (specs.length > 0) return
  throw new AppError('invalid_request', `Name at least one domain: ${EXPECTED}.`, { param: 'domain' })
}

/** `C:\texts` and `C:/texts`, at the start of either path. */
function isDrive(paths: string, at: number): boolean {
  return (
    /[A-Za-z]/.test(paths[at - 1] ?? '') &&
    (at === 1 || paths[at - 2] === ':') &&
    /[\\/]/.test(paths[at + 1] ?? '')
  )
}

function domainSpecError(text: string, reason: string): AppError {
  return new AppError('invalid_request', `The domain '${text}' cannot be read: ${reason}.`, {
    param: 'domain',
  })
}

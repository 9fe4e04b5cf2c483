import { AppError } from '@copal/shared/errors.ts'
import { domainName } from '@copal/shared/wire/inference-fields.ts'

/** A domain as given on the command line; its paths are not resolved. */
export interface DomainSpec {
  name: string
  /** Null: the domain is only evaluated. */
  calibrationPath: string | null
  evaluationPath: string
}

const EXPECTED =
  'name=calibration.txt:evaluation.txt, or name=:evaluation.txt for a domain that is never calibrated on'

/**
 * Parses `name=calibration.txt:evaluation.txt` or `name=:evaluation.txt`. The colon of a Windows drive is not a
 * separator.
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
    throw domainSpecError(text, `the ':' between the two files is missing; expected ${EXPECTED}`)
  if (colons.length > 1) throw domainSpecError(text, `a path must not contain ':'; expected ${EXPECTED}`)
  const evaluationPath = paths.slice(colon + 1)
  if (evaluationPath === '')
    throw domainSpecError(text, `the evaluation file is missing; expected ${EXPECTED}`)
  return { name, calibrationPath: paths.slice(0, colon) || null, evaluationPath }
}

/**
 * Checks that there is at least one domain and that no name is repeated.
 *
 * @throws AppError `invalid_request`
 */
export function requireDistinctDomains(specs: readonly DomainSpec[]): void {
  const names = new Set<string>()
  for (const { name } of specs) {
    if (names.has(name)) {
      throw new AppError('invalid_request', `The domain '${name}' is given twice.`, {
        param: 'domain',
      })
    }
    names.add(name)
  }
  if (specs.length > 0) return
  throw new AppError('invalid_request', `No domain is given. Give at least one: ${EXPECTED}.`, {
    param: 'domain',
  })
}

/** Tells whether the colon belongs to a drive such as `C:\` or `C:/` at the start of either path. */
function isDrive(paths: string, at: number): boolean {
  return (
    /[A-Za-z]/.test(paths[at - 1] ?? '') &&
    (at === 1 || paths[at - 2] === ':') &&
    /[\\/]/.test(paths[at + 1] ?? '')
  )
}

function domainSpecError(text: string, reason: string): AppError {
  return new AppError('invalid_request', `The domain '${text}' is invalid: ${reason}.`, {
    param: 'domain',
  })
}

/** Paths of pages, below the path of the dashboard. */

/** The path of the dashboard. */
const BASE = '/dashboard'

/** Values of the parameters of a path. */
export type PathParams = Readonly<Record<string, string>>

/**
 * Matches a path with a pattern such as `/domains/:name`.
 *
 * @returns the parameters, decoded; `undefined` when the path does not match
 */
export function matchRoute(pattern: string, path: string): PathParams | undefined {
  const wanted = segments(pattern)
  const given = segments(path)
  if (wanted.length !== given.length) return undefined
  const params: Record<string, string> = {}
  for (const [index, segment] of wanted.entries()) {
    const value = given[index] ?? ''
    if (segment.startsWith(':')) params[segment.slice(1)] = decode(value)
    else if (segment !== value) return undefined
  }
  return params
}

/** The path below the dashboard of an address; `/` is the first page. */
export function pathBelow(pathname: string): string {
  const below = pathname.startsWith(BASE) ? pathname.slice(BASE.length) : pathname
  return below === '' ? '/' : below.length > 1 && below.endsWith('/') ? below.slice(0, -1) : below
}

/**
 * The address of a page.
 *
 * @param to a path below the dashboard, with or without a query
 * @param kept query parameters that every address keeps, such as the model
 */
export function hrefOf(to: string, kept: Readonly<Record<string, string | null>> = {}): string {
  const url = new URL(to, 'http://dashboard.invalid')
  for (const [name, value] of Object.entries(kept)) {
    if (value !== null && !url.searchParams.has(name)) url.searchParams.set(name, value)
  }
  return `${BASE}${url.pathname === '/' ? '' : url.pathname}${url.search}${url.hash}`
}

/** Paths of the pages of things, with their names encoded. */
export const paths = {
  domain: (name: string) => `/domains/${encodeURIComponent(name)}`,
  update: (id: string) => `/updates/${encodeURIComponent(id)}`,
  mask: (version: number) => `/masks/${version}`,
  nodes: () => '/nodes',
  policy: () => '/policy',
} as const

function segments(path: string): string[] {
  return path.split('/').filter((segment) => segment !== '')
}

function decode(segment: string): string {
  try {
    return decodeURIComponent(segment)
  } catch {
    return segment
  }
}

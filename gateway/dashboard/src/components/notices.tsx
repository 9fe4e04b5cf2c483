/** Notices of pages and parts: empty, failing, forbidden, loading. */
import type { ComponentChildren } from 'preact'
import type { ApiError } from '../data/client.ts'
import { Code } from './copy-button.tsx'

/** Notice of an empty page, with the reason and the way to fill it. */
export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <div class="notice">
      <p class="notice-title">{title}</p>
      {children}
    </div>
  )
}

/** An error with advice. A service without a node is not an error: it has not begun. */
export function Failing({ error, reload }: { error: ApiError; reload: () => void }) {
  if (error.code === 'no_node_available')
    return (
      <Empty title="There is no node.">
        <p>Start one on a machine that has the model:</p>
        <Code label="Command" text="npm run node" />
      </Empty>
    )
  return (
    <div class="notice notice-harm" role="alert">
      <p class="notice-title">
        <span aria-hidden="true">▲</span> {error.message}
      </p>
      <p class="soft">
        {advice(error)}{' '}
        <button type="button" class="link" onClick={reload}>
          Try again
        </button>
      </p>
    </div>
  )
}

function advice(error: ApiError): string {
  if (error.status === 0) return 'The page tries again by itself.'
  if (error.status >= 500) return "The gateway's log says more. The page tries again by itself."
  if (error.status === 429) return 'The page tries again by itself, more slowly.'
  return `Error code: ${error.code}.`
}

/** Notice that this key may not see the page, with the keys that may. */
export function Forbidden({ message }: { message?: string }) {
  return (
    <div class="notice">
      <p class="notice-title">This key may not see this page.</p>
      <p class="soft">
        {message ?? ''} Sign in with the admin key or a key that may read all, or choose another page.
      </p>
    </div>
  )
}

/** Placeholder lines of a part that loads. */
export function Skeleton({ lines = 3 }: { lines?: number }) {
  return (
    <div class="skeleton" role="status">
      <span class="visually-hidden">Loading</span>
      {Array.from({ length: lines }, (_, index) => (
        <span key={index} class="skeleton-line" aria-hidden="true" />
      ))}
    </div>
  )
}

/** Placeholders of charts that load: plots of the given heights, pixels, each with title, marks and table. */
export function ChartSkeleton({ heights }: { heights: readonly number[] }) {
  return (
    <div role="status">
      <span class="visually-hidden">Loading</span>
      {heights.map((height, index) => (
        <div
          key={index}
          class="chart chart-place"
          style={{ height: `${height + (index === 0 ? 82 : 57)}px` }}
        />
      ))}
    </div>
  )
}

import type { ComponentChildren } from 'preact'
import { useNavigation } from './navigation.tsx'

interface LinkProps {
  /** Path below the dashboard. */
  to: string
  children: ComponentChildren
  class?: string
  title?: string | undefined
  /** The name for screen readers, where other links have the same text. */
  label?: string
  /** The link of the page that is shown. */
  current?: boolean
}

/** A link to another page of the dashboard, which does not load anew. */
export function Link({ to, children, class: className, title, label, current = false }: LinkProps) {
  const { go, href } = useNavigation()
  return (
    <a
      href={href(to)}
      class={className}
      title={title}
      aria-label={label}
      aria-current={current ? 'page' : undefined}
      onClick={(event) => {
        if (event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return
        event.preventDefault()
        go(to)
      }}
    >
      {children}
    </a>
  )
}

/** The pages by their paths, and the navigation. */
import type { ComponentType } from 'preact'
import type { SessionEntry } from '@copal/shared/wire/admin-session.ts'
import type { PathParams } from '../navigation/routes.ts'
import { DomainPage } from '../pages/domain/domain-page.tsx'
import { DomainsPage } from '../pages/domains/domains-page.tsx'
import { AuditPage } from '../pages/audit/audit-page.tsx'
import { KeysPage } from '../pages/keys/keys-page.tsx'
import { MaskPage } from '../pages/masks/mask-page.tsx'
import { MasksPage } from '../pages/masks/masks-page.tsx'
import { NodesPage } from '../pages/nodes/nodes-page.tsx'
import { OverviewPage } from '../pages/overview/overview-page.tsx'
import { PlaygroundPage } from '../pages/playground/playground-page.tsx'
import { PolicyPage } from '../pages/policy/policy-page.tsx'
import { UpdatePage } from '../pages/updates/update-page.tsx'
import { UpdatesPage } from '../pages/updates/updates-page.tsx'

/** A page and the path that shows it. */
export interface Route {
  pattern: string
  page: ComponentType<{ params: PathParams }>
}

/** All pages. The first pattern that matches wins. */
export const ROUTES: readonly Route[] = [
  { pattern: '/', page: OverviewPage },
  { pattern: '/domains', page: DomainsPage },
  { pattern: '/domains/:name', page: DomainPage },
  { pattern: '/updates', page: UpdatesPage },
  { pattern: '/updates/:id', page: UpdatePage },
  { pattern: '/policy', page: PolicyPage },
  { pattern: '/masks', page: MasksPage },
  { pattern: '/masks/:version', page: MaskPage },
  { pattern: '/nodes', page: NodesPage },
  { pattern: '/playground', page: PlaygroundPage },
  { pattern: '/keys', page: KeysPage },
  { pattern: '/audit', page: AuditPage },
]

/** A link of the navigation. */
export interface NavigationEntry {
  to: string
  title: string
  /** Roles that may see the page. */
  roles: readonly SessionEntry['role'][]
}

const READERS = ['operator', 'observer'] as const
const ALL = ['operator', 'observer', 'tenant'] as const

/** The navigation, in its order. */
export const NAVIGATION: readonly NavigationEntry[] = [
  { to: '/', title: 'Overview', roles: READERS },
  { to: '/domains', title: 'Domains', roles: ALL },
  { to: '/updates', title: 'Updates', roles: READERS },
  { to: '/policy', title: 'Policy', roles: READERS },
  { to: '/masks', title: 'Masks', roles: READERS },
  { to: '/nodes', title: 'Fleet', roles: READERS },
  { to: '/playground', title: 'Playground', roles: READERS },
  { to: '/keys', title: 'Keys', roles: ALL },
  { to: '/audit', title: 'Audit', roles: READERS },
]

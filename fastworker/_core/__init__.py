"""Pure machines: everything FastWorker decides, and no I/O.

Nothing in this package awaits, reads a clock, logs or draws global randomness.
Each machine has one face: ``handle(event, *, now)`` is its only mutator and
returns the commands that the shell around it has to carry out,
``next_deadline()`` says when it wants ``DeadlinePassed``, ``statistics()`` is a
frozen snapshot, and ``check()`` asserts every invariant.

The machines, each with its parts, of which one file has one noun:

* ``_control_plane``: peers and what they ask. ``_reception``, ``_session_table`` and
  ``_session_lifecycle``: who has a session. ``_task_requests``, ``_operator_requests`` and
  ``_task_lookup``: what a request means. ``_deliveries`` and ``_answers``: what goes back,
  ``_durability_barrier``: but not before the store has it. ``_feed``: who listens.
  ``_turn`` is the event that all of them handle.
* ``_scheduler``: tasks, from submit to end. ``_open_tasks`` has them, each in one place
  (``_held_tasks``, ``_waiting``, ``_away``, or with one of the ``_subworkers``); ``_owners``,
  ``_tasks_by_client`` and ``_families`` are whose they are; ``_submitting``, ``_placement``,
  ``_reports``, ``_losses``, ``_cancelling`` and ``_restart`` are what happens to them;
  ``_results`` and ``_ended_tasks`` what is kept of them, and what operators do with it.
* ``_client``: tasks as who has submitted them sees them. ``_client_tasks`` has them;
  ``_client_submits``, ``_client_news``, ``_client_cancels`` and ``_client_queries``.
* ``_subworker``: attempts. ``_attempts``, ``_report_queue``.
* ``_link_requester`` and ``_link_responder``: one session over pipes that come and go.
  ``_dialer_gate`` and ``_listener_gate``: before it, who is there.
* ``_callbacks``: telling the ends of tasks to addresses.

What goes over the wire is in ``_messages``, what is stored in ``_stored``.
"""

# Sidekiq: jobs, retries, schedules, the dead, its API: sidekiq_app.rb PORT BEHIND.
PORT = ARGV[0].to_i
ENV["SIDEKIQ_PORT"] = ARGV[0]
require "sidekiq/api"
require_relative "sidekiq_jobs"

$stdout.sync = true
Sidekiq.logger.level = Logger::ERROR

def say(what, value)
  puts "#{what}: #{value.inspect}".gsub(":#{PORT}", ":PORT")
end

def eventually(what, limit = 30)
  deadline = Time.now + limit
  until yield
    raise "waited in vain for #{what}" if Time.now > deadline
    sleep 0.005
  end
  say("eventually", what)
end

def list(name)
  Sidekiq.redis { |redis| redis.lrange(name, 0, -1) }
end

def jobs
  100.times { |number| Note.perform_async("notes", number) }
  eventually("all notes") { list("notes").size == 100 }
  say("notes", list("notes").map(&:to_i).sort == (0...100).to_a)
  Sidekiq::Client.push_bulk("class" => Note, "args" => (0...50).map { |number| ["bulk", number] })
  eventually("the bulk") { list("bulk").size == 50 }
  Note.perform_in(1, "later", "now")
  say("scheduled", [Sidekiq::ScheduledSet.new.size, Sidekiq::ScheduledSet.new.map { |job| job.args }])
  eventually("its time has come") { list("later") == ["now"] }
end

def failures
  Flaky.perform_async("flaky")
  eventually("it is to be retried") { Sidekiq::RetrySet.new.size == 1 }
  eventually("and works") { list("flaky") == ["tries 3"] }
  Hopeless.perform_async
  eventually("dead") { Sidekiq::DeadSet.new.size == 1 }
  say("failed", [Sidekiq::Stats.new.failed, Sidekiq::RetrySet.new.size])
end

def api
  eventually("a process") { Sidekiq::ProcessSet.new.size == 1 }
  process = Sidekiq::ProcessSet.new.first
  say("process", [process["queues"].sort, process["concurrency"]])
  eventually("nothing is left") { Sidekiq::Stats.new.enqueued.zero? && Sidekiq::Stats.new.processed >= 150 }
  say("queues", Sidekiq::Queue.all.map { |queue| [queue.name, queue.size] }.sort)
  process.quiet!
  eventually("it is quiet") { Sidekiq::ProcessSet.new.first&.stopping? }
  Note.perform_async("quiet", "x")
  say("waits", [Sidekiq::Queue.new("work").map(&:args), list("quiet")])
  say("cleared", [Sidekiq::Queue.new("work").clear, Sidekiq::Queue.new("work").size])
end

def start
  folder = __dir__
  arguments = %w[-q urgent,2 -q work -c 5 -t 5 -r] + [File.join(folder, "sidekiq_jobs.rb")]
  Process.spawn({ "SIDEKIQ_PORT" => PORT.to_s }, "sidekiq", *arguments, in: File::NULL, out: File::NULL, err: File::NULL)
end

def stop(pid)
  Process.kill("TERM", pid)
  _, status = Process.wait2(pid)
  status.exitstatus
end

puts "version #{Sidekiq::VERSION}"
worker = start
begin
  %i[jobs failures api].each do |scenario|
    say("---", scenario)
    send(scenario)
  end
  say("ended", stop(worker))
  worker = start
  puts "@restart"
  $stdin.gets
  eventually("noted again") do
    Note.perform_async("again", "x")
    list("again").any?
  rescue Redis::BaseError
    false
  end
  say("ended", stop(worker))
  worker = nil
ensure
  Process.kill("KILL", worker) && Process.wait(worker) if worker
end
puts "done"

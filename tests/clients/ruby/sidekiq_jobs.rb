# What Sidekiq's workers do for sidekiq_app.rb.
require "sidekiq"
require "sidekiq/scheduled"

SIDEKIQ_REDIS = { url: "redis://127.0.0.1:#{ENV.fetch("SIDEKIQ_PORT")}/3" }
Sidekiq.configure_server do |config|
  config.redis = SIDEKIQ_REDIS
  config.options[:poll_interval_average] = 0.2
  config.options[:average_scheduled_poll_interval] = 0.2
end
Sidekiq.configure_client { |config| config.redis = SIDEKIQ_REDIS }

# It would look after retries and schedules for the first time after ten to fifteen seconds.
class Sidekiq::Scheduled::Poller
  def initial_wait
    sleep 0.1
  end
end

Redis.sadd_returns_boolean = false if Redis.respond_to?(:sadd_returns_boolean=)

class Note
  include Sidekiq::Worker
  sidekiq_options queue: "work", retry: 3
  sidekiq_retry_in { |_count, _error| 0.1 }

  def perform(list, text)
    Sidekiq.redis { |redis| redis.rpush(list, text) }
  end
end

class Flaky
  include Sidekiq::Worker
  sidekiq_options queue: "urgent", retry: 5
  sidekiq_retry_in { |_count, _error| 1 }

  def perform(list)
    Sidekiq.redis do |redis|
      tries = redis.incr("tries")
      raise "not yet" if tries < 3
      redis.rpush(list, "tries #{tries}")
    end
  end
end

class Hopeless
  include Sidekiq::Worker
  sidekiq_options queue: "urgent", retry: 0

  def perform
    raise ArgumentError, "as it should"
  end
end
